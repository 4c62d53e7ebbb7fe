// Package threats holds tests only: the threats that whoever runs signed records is
// under, each as one test at the place where something would run. An agent with its
// real judgement, a circle of trust that a real quorum agreed to, real orders, real
// signatures and real executors gets a delivery; or a guard gets an update set for a
// real database. In every test something honest runs first, so that none passes
// because nothing works; then everything hostile is refused, for its reason.
//
//	 1  a changed field, SQL or script             TestThreat01ChangedFieldOrSQL
//	 2  a field outside the signed list            TestThreat02UnsignedField
//	 3  the signature of another record            TestThreat03SignatureOfAnotherRecord
//	 4  another purpose, the wild card elsewhere   TestThreat04Purpose
//	 5  certificates that vouch for nothing        TestThreat05Certificate
//	 6  an older version that was signed           TestThreat06Rollback
//	 7  an order that was begun, or is old         TestThreat07Replay
//	 8  an order for another agent                 TestThreat08AnotherAgent
//	 9  parameters                                 TestThreat09Parameters
//	10  a swap between check and run               TestThreat10Swap
//	11  operations that nobody signed              TestThreat11Operations
//	12  tricks with XML                            TestThreat12XML
//	13  downgrade                                  TestThreat13Downgrade
//	14  stripping                                  TestThreat14Stripping
//	15  stale trust                                TestThreat15StaleTrust
//	16  a clock that goes back                     TestThreat16Clock
//	17  a protected instance that was taken over   TestThreat17ProtectedInstance
//	18  confusion of algorithms                    TestThreat18Algorithms
//	19  exhaustion                                 TestThreat19Exhaustion
//	20  forged logs, secrets in refusals           TestThreat20Logs
//	21  a dependency that nobody signed            TestThreat21Dependency
//	22  a removal as an attack                     TestThreat22Removal
//
// Invariants, held at every refusal by world.refused and importer.refused:
//
//  1. Nothing was executed: no page of a result, and the instance was not told that
//     the job starts. (Of an attachment whose bytes are not the signed ones the start
//     is told: they are fetched after it. No page is.)
//  2. The same code stands in the agent's log, in its own file, and at the instance.
//  3. No value of a record, a parameter or a file stands in any of them. Every value
//     in these tests holds the same word, which is looked for.
//
// TestMutations takes the checks out of the production code, one after the other, and
// holds that the test of the threat then fails.
package threats
