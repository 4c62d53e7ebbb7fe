package cli

import (
	"context"
	"crypto"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/format/file"
	"github.com/greatseal-io/greatseal/internal/agent"
	"github.com/greatseal-io/greatseal/internal/config"
	"github.com/greatseal-io/greatseal/internal/ecc"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/key/soft"
	"github.com/greatseal-io/greatseal/order"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/rejection"
)

// attackEdit has somebody with the plant's database put another statement into the
// signed record.
func (d *demo) attackEdit(ctx context.Context) error {
	change := func(to string) error {
		return edit(ctx, d.path("plant", "app.db"), func(c *sql.Conn) error {
			_, err := c.ExecContext(ctx, `UPDATE sys_data_source SET sql_statement = ? WHERE sys_id = ?`, to, demoKey)
			return err
		})
	}
	const spy = "SELECT login, password, :minimum FROM accounts"
	if err := change(spy); err != nil {
		return err
	}
	d.say("   UPDATE    %s SET sql_statement = '%s'", demoTable, spy)
	if err := d.refusedByBoth(ctx, rejection.FieldChanged, "sql_statement"); err != nil {
		return err
	}
	return change(demoFirst)
}

// attackRestore has a second version signed, and then the whole database of the plant
// restored from a copy of the first one: record and signature fit each other.
func (d *demo) attackRestore(ctx context.Context) error {
	app, backup := d.path("plant", "app.db"), d.path("plant", "backup.db")
	err := edit(ctx, app, func(c *sql.Conn) error {
		_, err := c.ExecContext(ctx, "VACUUM INTO ?", backup)
		return err
	})
	if err != nil {
		return err
	}
	if err := d.move(ctx, "release 2", demoSecond); err != nil {
		return err
	}
	if err := d.runSource(ctx); err != nil {
		return err
	}
	if n := len(d.result.Records.Rows); n != 2 {
		return fmt.Errorf("%d rows: want 2", n)
	}
	if err := edit(ctx, app, func(c *sql.Conn) error { return restore(ctx, c, backup) }); err != nil {
		return err
	}
	d.say("   restored  the plant's database as it was before release 2, records and signatures")
	return d.refusedByBoth(ctx, rejection.RevisionRollback, "")
}

// restore makes every table what it is in another file, in one transaction.
func restore(ctx context.Context, c *sql.Conn, from string) error {
	if _, err := c.ExecContext(ctx, "ATTACH ? AS old", from); err != nil {
		return err
	}
	tx, err := c.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	rows, err := tx.QueryContext(ctx, `SELECT name FROM main.sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'`)
	if err != nil {
		return err
	}
	var tables []string
	for rows.Next() {
		var n string
		if err := rows.Scan(&n); err != nil {
			return err
		}
		tables = append(tables, n)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	for _, n := range tables {
		for _, s := range []string{`DELETE FROM main."%s"`, `INSERT INTO main."%[1]s" SELECT * FROM old."%[1]s"`} {
			if _, err := tx.ExecContext(ctx, fmt.Sprintf(s, n)); err != nil {
				return err
			}
		}
	}
	return tx.Commit()
}

// attackReplay restarts the agent and delivers, once more, the order that it ran last.
func (d *demo) attackReplay(ctx context.Context) error {
	line := d.estate.agent.line
	line.mu.Lock()
	last := line.last
	line.mu.Unlock()
	if last == nil {
		return errors.New("the agent was delivered no order")
	}
	if err := d.estate.agent.close(); err != nil {
		return err
	}
	d.estate.agent = nil
	if err := d.startAgent(ctx); err != nil {
		return err
	}
	d.say("   replayed  order %s, recorded on the line, byte for byte, to an agent that was restarted meanwhile", last.Lease.Job[:12])
	return d.refusedByAgent(ctx, *last, rejection.OrderReplayed, "")
}

// refusedByBoth wants the plant to refuse to hand the record out, and the agent to
// refuse it from whoever has stolen the plant and its keys.
func (d *demo) refusedByBoth(ctx context.Context, code rejection.Code, subject string) error {
	_, err := d.estate.plant.Guard.IsTrusted(ctx, demoApp, d.ref(), record.Queue)
	if err := d.expect("instance", rejection.Of(err), err, code, subject); err != nil {
		return err
	}
	r, err := d.submit(ctx)
	if err != nil {
		return err
	}
	if why, _, _ := strings.Cut(r.ErrorString, "("); r.State != store.QueueError || why != string(code) {
		return fmt.Errorf("job %s is %s %s: want %s", r.ID[:12], r.State, r.ErrorString, code)
	}
	d.say("   withheld  the plant hands nothing out: job %s ends with %s", r.ID[:12], r.ErrorString)
	runtime, end, err := d.steal(ctx)
	if err != nil {
		return err
	}
	defer end()
	j, err := d.forgeOrder(ctx, runtime)
	if err != nil {
		return err
	}
	d.say("   stolen    the plant itself: an order signed with its runtime key delivers the record all the same")
	return d.refusedByAgent(ctx, *j, code, subject)
}

func (d *demo) refusedByAgent(ctx context.Context, j agent.Job, code rejection.Code, subject string) error {
	r, err := d.estate.agent.line.deliver(ctx, j)
	if err != nil {
		return err
	}
	if r == nil {
		return fmt.Errorf("the agent ran it: want %s", code)
	}
	return d.expect("agent", r, nil, code, subject)
}

// expect wants a refusal to have a reason, and shows it.
func (d *demo) expect(who string, r *rejection.Error, err error, code rejection.Code, subject string) error {
	switch {
	case r == nil && err != nil:
		return err
	case r == nil:
		return fmt.Errorf("the %s accepted it: want %s", who, code)
	case r.Code != code || r.Subject != subject && subject != "":
		return fmt.Errorf("the %s refuses it for another reason than %s: %w", who, code, r)
	}
	d.result.Records.Refusals = append(d.result.Records.Refusals, demoRefusal{who, string(r.Code), r.Subject, r.Detail})
	d.refused("by the " + who + ": " + r.Error())
	return nil
}

// steal copies the plant's keystore with its passphrase, and opens the copy.
func (d *demo) steal(ctx context.Context) (crypto.Signer, func(), error) {
	dir, err := os.MkdirTemp(d.dir, "stolen-")
	if err != nil {
		return nil, nil, err
	}
	away := func() { os.RemoveAll(dir) }
	b, err := os.ReadFile(d.path("plant", "keystore"))
	if err == nil {
		err = file.WriteFile(dir+"/keystore", b, 0o600)
	}
	if err != nil {
		away()
		return nil, nil, err
	}
	pass, err := config.Secret(d.path("plant", "passphrase"))
	if err != nil {
		away()
		return nil, nil, err
	}
	p, err := soft.Open(dir+"/keystore", pass)
	if err != nil {
		away()
		return nil, nil, err
	}
	keys, err := ecc.OpenKeys(ctx, p)
	if err != nil {
		p.Close()
		away()
		return nil, nil, err
	}
	return keys.Runtime, func() { p.Close(); away() }, nil
}

// forgeOrder is what the plant would deliver if it did not verify.
func (d *demo) forgeOrder(ctx context.Context, runtime crypto.Signer) (*agent.Job, error) {
	row, err := d.estate.plant.Platforms[demoApp].Get(ctx, d.ref(), nil)
	if err != nil {
		return nil, err
	}
	sum, err := order.Content(&row.Record)
	if err != nil {
		return nil, err
	}
	var id [16]byte
	nonce := make([]byte, order.NonceSize)
	if _, err := rand.Read(id[:]); err != nil {
		return nil, err
	}
	if _, err := rand.Read(nonce); err != nil {
		return nil, err
	}
	now := time.Now()
	o := &order.Order{Version: order.Version, ID: hex.EncodeToString(id[:]), Attempt: 1, Instance: demoPlant, Agent: demoAgentName, Topic: demoTopic, Name: "open orders",
		Priority: order.Interactive, Records: []order.Record{{Ref: d.ref(), Purpose: record.Queue, Digest: sum}}, Params: map[string]string{"minimum": demoMinimum},
		IssuedAt: now.Unix(), Expires: now.Add(time.Minute).Unix(), Nonce: nonce}
	s, err := order.Sign(o, runtime)
	if err != nil {
		return nil, err
	}
	b, err := s.Encode()
	if err != nil {
		return nil, err
	}
	return &agent.Job{Lease: agent.Lease{Job: o.ID, Attempt: 1}, Topic: o.Topic, Priority: agent.Interactive, Order: b,
		Records: []agent.Item{{Record: row.Record, Signatures: row.Signatures}}}, nil
}
