package rejection

// Means says in a sentence what a reason means, for people; "" for what is no reason.
func (c Code) Means() string { return explanations()[c].means }

// Cure says what to do about it: a sentence, or "".
func (c Code) Cure() string { return explanations()[c].cure }

type explanation struct{ means, cure string }

const (
	signAgain   = "Look at what has changed and who changed it; when it is right, sign the record on the trusted instance and bring it here again."
	bringAgain  = "Bring the record with its signatures again, as an update set or an export of the trusted instance."
	askIssuer   = "Ask the officers of the side that signed; its circle says which certificates count."
	askAgain    = "Submit the job again."
	coverOf     = "Have the configuration cover it on the trusted side, sign again, and bring the new circle."
	fixPackage  = "Have the set made again on the trusted instance; nothing of it is applied."
	lookForWho  = "Find out who made the job, and with what."
	letCircleIn = "See that the instance reaches its trusted sides, and import their newest circle."
)

// explanations has one for every code; a test holds that.
func explanations() map[Code]explanation {
	return map[Code]explanation{
		SigMissing:           {"The record has no signature for this purpose.", "Sign it on the trusted instance under a configuration of this purpose, and bring it here."},
		SigMalformed:         {"The signature cannot be read.", bringAgain},
		SigInvalid:           {"The signature was not made by that key over this record.", signAgain},
		AlgNotAllowed:        {"The signature's algorithm is not one that the circle allows.", "Sign again with an algorithm that the circle allows."},
		CertUnknown:          {"The certificate that signed is not in the circle.", askIssuer},
		CertUntrusted:        {"The certificate does not lead to an authority of the circle.", askIssuer},
		CertExpiredAtSigning: {"The certificate was over when the record was signed.", "Sign again under a certificate that is valid."},
		CertRevoked:          {"The certificate was revoked before this signature counts.", "Sign again under another certificate; records signed before are listed by a scan."},
		KeyCompromised:       {"The key is known to be compromised.", "Sign again under another key, and treat what the old one signed as forged."},
		PurposeMismatch:      {"The record was signed for another purpose than this one.", "Sign it for this purpose if it is meant for it."},
		WildcardNotAllowed:   {"The signature is for every purpose, and the circle allows that to nobody, or not to this signer.", "Sign it for the purpose that it serves."},
		AudienceMismatch:     {"The record was signed for other instances.", "Sign it for this instance too."},
		RecordMismatch:       {"The signature belongs to another record: it was moved here.", signAgain},
		FieldChanged:         {"A field is not as it was signed.", signAgain},
		FieldUncovered:       {"A field that must be covered is not covered by the signature.", coverOf},
		AttachmentChanged:    {"An attachment is not the one that was signed.", signAgain},
		AttachmentMissing:    {"An attachment that was signed is not there.", bringAgain},
		AttachmentExtra:      {"There is an attachment that nobody signed.", "Remove it, or sign the record with it."},
		ConfigOutdated:       {"The record was signed under an earlier version of its configuration, which no longer counts.", "Sign again under the configuration of now."},
		RevisionRollback:     {"A newer version of this record was here before: this is an old one.", "Bring the newest version. Somebody may be trying to bring back a fault that was mended."},
		NotYetValid:          {"The signature is not valid yet.", "Wait, or look at the clocks."},
		Expired:              {"The signature is no longer valid.", "Sign again."},
		OrderMalformed:       {"The work order cannot be read.", askAgain},
		OrderUnsigned:        {"The work order carries no signature of this instance's key.", lookForWho},
		OrderExpired:         {"The work order is over.", askAgain},
		OrderReplayed:        {"The work order was begun before: it is shown again.", lookForWho + " A new job is a new order."},
		WrongAgent:           {"The work order is for another agent, or for what this agent does not do.", "See which topics the agent has, and for whom the job is."},
		ParamNotAllowed:      {"The order passes a parameter that the record's configuration does not let it pass.", "Leave it out, or have the configuration allow it on the trusted side."},
		ParamMissing:         {"The record wants a parameter that the order does not pass.", "Submit the job with it."},
		FirewallDenied:       {"The agent's own firewall does not let it: its operator decides that.", "Ask the agent's operator; no server can change it."},
		TrustStoreStale:      {"What is known of the trusted side is too old to be believed.", letCircleIn},
		ClockBackwards:       {"The clock has gone backwards.", "Set the clock; the time of the newest thing seen is kept."},
		PayloadMalformed:     {"An update cannot be read, or reads in two ways.", fixPackage},
		PayloadTooLarge:      {"An update is larger than any that is taken.", fixPackage},
		ExtraOperation:       {"An update does more than what was signed.", fixPackage},
		ActionMismatch:       {"An update says one action and does another.", fixPackage},
		DependencyUnsigned:   {"A record that this one uses is not signed, or not for this purpose.", "Sign that one too; its name stands here."},
		DeleteUnsigned:       {"A protected record is deleted without a signature that deletes it.", "Sign the deletion on the trusted instance."},
		NotProtected:         {"Signing was asked of an instance that protects, or enforcement is to be changed on one that may not.", "Do it on the trusted instance."},
	}
}
