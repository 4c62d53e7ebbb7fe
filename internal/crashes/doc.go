// Package crashes holds tests only: a server and a keeper in processes of their
// own, which are killed without warning at every durable step while requests are
// under way, and what they stand on: PostgreSQL, an HSM's driver, the disk.
//
// Afterwards, each time, with everything started again:
//
//  1. Every request that was endorsed is executed: nothing is lost.
//
//  2. Each has one receipt of execution, and the ledger as many signatures as
//     were asked for: nothing is done twice.
//
//  3. In the ledger an intent stands before each receipt that needed a key.
//
//  4. The log verifies as a stranger reads it, receipts without a gap, and its
//     head is signed.
//
//  5. Results can be collected and verify; files are what they were or whole.
//
//     the server, at every step of server.Steps   TestCrashServer
//     the keeper, at every step of an execution   TestCrashKeeper
//     both and two replicas, at random            TestCrashStorm
//     PostgreSQL                                  TestCrashPostgreSQL
//     the process of an HSM's driver              TestCrashModule
//     a disk that is full                         TestCrashDiskFull
//     a client that writes its file               TestCrashClient
package crashes
