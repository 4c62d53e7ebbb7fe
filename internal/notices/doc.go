// Package notices tells people and channels what they are to know: it keeps how each
// wants to be told, makes one notice for each event, recipient and way, holds back
// what is for a digest or falls into quiet hours, and delivers the rest.
//
// Invariants:
//
//  1. A notice's ID is a digest of event, request, recipient and way: what is
//     planned twice, by replicas or after a crash, is one notice.
//  2. A notice that a receiver has taken is not sent again. One whose attempt ended
//     without an answer (the connection fell after the message, the process was
//     killed) is sent once more with the same Message-ID; after a second such end it
//     is left as it is.
//  3. A receiver that is slow or away holds up nobody else: each has a lane.
//  4. Where somebody is reached stands in the charter and the configuration, never in
//     what he sets himself: a stolen session leads no message elsewhere.
//  5. Somebody who is no longer in the charter is told nothing, also of what was
//     planned before.
//
// What a caller may not conclude: that somebody knows. Nothing in the rules of a
// quorum depends on a notice.
package notices
