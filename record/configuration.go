package record

import (
	"crypto/sha256"
	"slices"

	"github.com/greatseal-io/greatseal/format"
)

// Predefined are the configurations with the wild card purpose. They are in force
// everywhere, under these IDs; nobody writes others with that purpose.
func Predefined() map[string]Configuration {
	return map[string]Configuration{
		"business-rules": {
			Version: 1, Table: "sys_script", Purpose: Wildcard, Attachments: true,
			Fields: []string{
				"abort_action", "action_delete", "action_insert", "action_query", "action_update", "active", "add_message", "advanced",
				"change_fields", "client_callable", "collection", "condition", "execute_function", "filter_condition", "is_rest", "message",
				"name", "order", "priority", "rest_method", "rest_method_text", "rest_service", "rest_service_text", "rest_variables",
				"role_conditions", "script", "sys_domain", "sys_scope", "template", "when",
			},
		},
		"script-includes": {
			Version: 1, Table: "sys_script_include", Purpose: Wildcard, Attachments: true,
			Fields: []string{
				"access", "active", "api_name", "caller_access", "client_callable", "mobile_callable", "name", "sandbox_callable", "script", "sys_scope",
			},
		},
	}
}

// Check refuses a configuration that may not be in force under this ID.
func (c *Configuration) Check(id string) error {
	if err := checkWord("configuration", id); err != nil {
		return err
	}
	if err := checkText("table", c.Table); err != nil {
		return err
	}
	if c.Version < 1 {
		return malformed("configuration %s: version 0: want 1 or more", id)
	}
	if p, ok := Predefined()[id]; ok || c.Purpose == Wildcard {
		if !ok || !c.equal(&p) {
			return malformed("configuration %s: the wild card purpose and its configurations are predefined: they cannot be written", id)
		}
		return nil
	}
	if err := checkWord("purpose", c.Purpose); err != nil {
		return err
	}
	if c.Purpose == Circle || c.Purpose == Freshness {
		return malformed("configuration %s: purpose %s is not for records", id, c.Purpose)
	}
	if len(c.Condition) > maxCondition || !validUTF8(c.Condition) {
		return malformed("configuration %s: condition: want at most %d bytes of UTF-8", id, maxCondition)
	}
	if len(c.Fields) == 0 && !c.Attachments {
		return malformed("configuration %s signs nothing: name fields or attachments", id)
	}
	if err := checkSorted("field", c.Fields, MaxFields, checkText); err != nil {
		return err
	}
	return checkSorted("parameter", c.Parameters, MaxFields, checkText)
}

func (c *Configuration) equal(o *Configuration) bool {
	return c.Version == o.Version && c.Table == o.Table && c.Purpose == o.Purpose && c.Condition == o.Condition &&
		slices.Equal(c.Fields, o.Fields) && c.Attachments == o.Attachments && slices.Equal(c.Parameters, o.Parameters)
}

// Covers reports whether the configuration signs a field.
func (c *Configuration) Covers(field string) bool {
	_, ok := slices.BinarySearch(c.Fields, field)
	return ok
}

// Digest is SHA-256 over the deterministic CBOR of {1: "greatseal configuration v1",
// 2: id, 3: the configuration}.
func (c *Configuration) Digest(id string) [sha256.Size]byte {
	b, err := format.Encode(struct {
		Domain        string        `cbor:"1,keyasint"`
		ID            string        `cbor:"2,keyasint"`
		Configuration Configuration `cbor:"3,keyasint"`
	}{"greatseal configuration v1", id, *c})
	if err != nil {
		panic(err) // strings, numbers and booleans are always encoded
	}
	return sha256.Sum256(b)
}

// Ref names the configuration as statements do.
func (c *Configuration) Ref(id string) ConfigurationRef {
	return ConfigurationRef{ID: id, Version: c.Version, Digest: c.Digest(id)}
}

func (c *ConfigurationRef) check() error {
	if c.Version < 1 {
		return malformed("configuration %.80q of version 0", c.ID)
	}
	return checkWord("configuration", c.ID)
}
