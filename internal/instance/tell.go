package instance

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json/v2"
	"fmt"
	"time"

	"github.com/greatseal-io/greatseal/internal/notices"
	"github.com/greatseal-io/greatseal/internal/notify"
	"github.com/greatseal-io/greatseal/internal/store"
)

const (
	// kindFinding is the kind of the jobs that deliver findings; ":" and the name of
	// the receiver follow.
	kindFinding = "record-finding"
	// gatherFindings is how long findings of one kind are one message.
	gatherFindings = 10 * time.Second

	tellTries = 12
)

// untrusted is the body of a message. It holds names, never values.
type untrusted struct {
	Type      notify.Event `json:"type"`
	Timestamp time.Time    `json:"timestamp"`
	Data      found        `json:"data"`
}

type found struct {
	Instance string `json:"instance"`
	Source   string `json:"source"` // who looked: "watch" or "import"
	Table    string `json:"table"`
	Ref      string `json:"ref"` // record.Ref's ID, of the first
	Code     string `json:"code"`
	Subject  string `json:"subject,omitzero"`
	Detail   string `json:"detail,omitzero"`
}

// found queues the messages about a finding, which is in the store already. Those of
// the same table, code and subject are one message until it is sent: an update of a
// million rows is no million of messages.
func (i *Instance) found(ctx context.Context, f store.Finding) error {
	if len(i.c.Webhooks) == 0 && i.c.Notices == nil {
		return nil
	}
	data := found{Instance: i.c.Config.Name, Source: f.Source, Table: f.Table, Ref: string(f.Ref), Code: f.Code, Subject: f.Subject, Detail: f.Detail}
	body, err := json.Marshal(untrusted{notify.Untrusted, f.At.UTC(), data}, json.Deterministic(true))
	if err != nil {
		return fmt.Errorf("instance: message: %w", err)
	}
	end := f.At.Truncate(gatherFindings).Add(gatherFindings)
	sum := sha256.Sum256(fmt.Appendf(nil, "greatseal finding v1\x00%s\x00%s\x00%s\x00%s\x00%s\x00%d", i.c.Config.Name, f.Source, f.Table, f.Code, f.Subject, end.Unix()))
	id := hex.EncodeToString(sum[:16])
	var jobs []store.Job
	for _, w := range i.c.Webhooks {
		if w.Wants(notify.Untrusted) {
			jobs = append(jobs, store.Job{Kind: kindFinding + ":" + w.Name, Ref: id + "/" + w.Name, Payload: body, RunAt: end})
		}
	}
	if i.c.Notices != nil {
		j, err := notices.Alert(notify.Untrusted, id, data.Instance, f.At, notify.Fact{Name: "Noticed by", Value: data.Source}, notify.Fact{Name: "Table", Value: data.Table},
			notify.Fact{Name: "Record", Value: data.Ref}, notify.Fact{Name: "Code", Value: data.Code}, notify.Fact{Name: "Subject", Value: data.Subject}, notify.Fact{Name: "Detail", Value: data.Detail})
		if err != nil {
			return fmt.Errorf("instance: message: %w", err)
		}
		j.RunAt = end
		jobs = append(jobs, j)
	}
	return i.c.Store.Enqueue(ctx, jobs...)
}

// tell sends what waits to be sent, to each receiver apart.
func (i *Instance) tell(ctx context.Context) {
	l := &notices.Lanes{Store: i.c.Store, Prefix: kindFinding, Clock: i.c.Clock, Logger: i.log, Do: func(ctx context.Context, j store.Job) {
		err := i.send(ctx, &j)
		switch {
		case ctx.Err() != nil:
			return // the lease runs out and somebody else does it
		case err == nil, j.Attempts >= tellTries:
			if err != nil {
				i.log.Error("a message about a record was given up", "error", err)
			}
			err = i.c.Store.Done(ctx, j.ID)
		default:
			wait := min(5*time.Second<<min(j.Attempts, 10), time.Hour)
			err = i.c.Store.Retry(ctx, j.ID, i.c.Clock().Add(wait), err.Error())
		}
		if err != nil && ctx.Err() == nil {
			i.log.Error("messages about records wait", "error", err)
		}
	}}
	l.Run(ctx)
}

func (i *Instance) send(ctx context.Context, j *store.Job) error {
	for _, w := range i.c.Webhooks {
		if id := j.Ref[:min(len(j.Ref), 32)]; j.Ref == id+"/"+w.Name {
			return i.c.Sender.Send(ctx, w, "rec_"+id, i.c.Clock(), j.Payload)
		}
	}
	return nil // it was taken out of the configuration
}
