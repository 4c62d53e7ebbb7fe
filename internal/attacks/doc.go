// Package attacks holds tests only: a whole deployment (server, store, keeper
// behind its wire, people with their keys) as somebody would attack it who has
// read the source. What a single package can be attacked with is tested in that
// package.
//
// # Where approvals leak elsewhere
//
//	a requester approves himself                 TestLeakRequesterApprovesHimself
//	one person in two groups fills both          TestLeakOnePersonInTwoGroups
//	membership frozen                            TestLeakMembershipFrozen
//	the default approver is anybody              TestLeakDefaultApproverIsAnybody
//	a way around the queue                       TestLeakWayAroundTheQueue
//	an approval not tied to bytes                TestLeakApprovalNotTiedToBytes
//	the approver sees a hash                     TestLeakApproverSeesAHash
//	nobody is told                               TestLeakNobodyIsTold
//	nobody can say no                            TestLeakNobodyCanSayNo
//	a re-run makes a second request              TestLeakRerunMakesASecondRequest
//	CI loses the result                          TestLeakResultIsLost
//	an approval is a database row                TestLeakApprovalIsADatabaseRow
//	audit after the fact, or removable           TestLeakAuditAfterTheFact
//
// # What else an attacker tries
//
//	edits any column of the database by hand     TestAttackDatabaseColumns
//	owns the server and feeds the keeper         TestAttackLyingServer
//	hides a disapproval from the keeper          TestAttackHiddenDisapproval
//	restores an old charter                      TestAttackOldCharter
//	cuts the ledger, or restores an old one      TestAttackLedgerRolledBack
//	malleates signatures                         TestAttackSignaturesMalleated
//	plans what does not follow from a file       TestAttackPlanStructure
//	signs two plans under one endorsement        TestAttackTwoPlans
//	uses a signature made for something else     TestAttackNamespace
//	uses a passkey without its person            TestAttackPasskey
//	swaps a certificate                          TestAttackCertificateSwapped
//	steals the server's host                     TestAttackStolenServer
//	steals tokens and sessions                   TestAttackStolenToken
//	serves the result or evidence of another     TestAttackResultOfAnother
//
// Invariants, held after every test by world.sound: receipts are numbered and
// chained without a gap; no key was used but for an executed receipt; the log
// verifies as a stranger reads it, so that every executed command was endorsed.
// Tests that damage the log themselves say what is found instead.
package attacks
