// Package agent is the process inside a company's network that runs what a
// protected instance asks for, when a trusted instance has signed it.
//
// For every job, in this order: the order's own signature, recipient and life
// (package order) · the operator's firewall (package firewall) · the durable set of
// orders seen · the authors' signatures over every record, every attachment and
// everything they include (package record), against a circle of trust that the agent
// holds itself (package circle) · the order's parameters · the executor, which takes
// what was verified and nothing else.
//
// Invariants:
//
//  1. Executors take *record.Trusted: nothing runs that was not verified in this
//     process, and what runs is the buffer that was verified, never read again.
//  2. An order runs once. Its ID is durable before anything runs, survives a kill at
//     any point, and is kept until the order has expired, with a margin.
//  3. Whoever controls the protected instance can withhold and delay; he cannot make
//     the agent run what no author signed, run it with a parameter that the signed
//     configuration does not name, or let a parameter stand in for a signed field.
//  4. Trust that is too old, or a clock that went backwards, stops execution. A
//     revocation holds from the next pull on; nothing is restarted. It holds also for
//     what was judged before, as long as the instance lets a job wait: for the answer to
//     its start, or for its attachment.
//  5. The firewall's default is deny, and a file that cannot be trusted stops the
//     start.
//  6. A refusal is one line of the log, one report to the instance and one entry in
//     the agent's own file: the same code in all three, names and never values.
//  7. Results survive the loss of the connection and of the process, and are brought
//     once.
//
// A caller may not conclude from a result that the agent's host is sound: an agent
// proves who asked for a job, not what the host did with it.
package agent
