package attacks

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/credential/credentialtest"
	"github.com/greatseal-io/greatseal/internal/keeper"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/statement"
)

// Whoever asks has no vote: not with the key that asked, not with another one of
// his, not through a machine that he owns; and he gets none by asking through it.
func TestLeakRequesterApprovesHimself(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{charter: func(w *world, c *charter.Charter) {
		second := w.join("alice's second key", credentialtest.FIDO("alice"))
		second.Name = "alice"
		alice := c.People["alice"]
		alice.Credentials = append(alice.Credentials, charter.CredentialOf(second.Signer.Credential()))
		c.People["alice"] = alice
		// Service accounts of hers: one that asks, one among the gates.
		for _, name := range []string{"alice-bot", "alice-gate"} {
			bot := w.join(name, credentialtest.SSH(name))
			c.Machines[name] = charter.Machine{Owner: "alice", Credentials: []charter.Credential{charter.CredentialOf(bot.Signer.Credential())}}
		}
		gates := c.Groups["gates"]
		gates.Members = append(gates.Members, "alice-bot", "alice-gate")
		c.Groups["gates"] = gates
		release := c.Policies["release"]
		release.Rule.Requesters = append(release.Rule.Requesters, "alice-bot")
		c.Policies["release"] = release
	}})
	items := w.items("self")
	mine := []string{"alice", "alice's second key", "alice-bot", "alice-gate"}
	for _, asks := range []string{"alice", "alice-bot"} {
		t.Run(asks, func(t *testing.T) {
			w := w.in(t)
			items := w.items("self " + asks)
			env := w.ask(asks, "release", items)
			w.submit(env, items)
			for _, who := range mine {
				w.refused(who, w.endorsement(who, env))
			}
			if r := w.endorse(env, "carol", "scanner"); r.State != store.Pending {
				t.Errorf("without bob the request is %s", r.State)
			}
			// The keeper says the same to somebody who has the server.
			votes := [][]byte{w.endorsement("carol", env), w.endorsement("scanner", env)}
			for _, who := range mine {
				votes = append(votes, w.endorsement(who, env))
				w.denied(who, env, items, votes...)
			}
			if r := w.endorse(env, "bob"); r.State == store.Pending {
				t.Errorf("with bob the request is %s: %s", r.State, r.Detail)
			}
			w.await(idOf(t, env), store.Executed)
		})
	}
	if n := w.signedBy("release"); n != 2 {
		t.Errorf("%d requests were executed: want those 2 of bob's", n)
	}
	// Two names of one person are not told apart by the name in the request.
	env := w.ask("alice", "release", items)
	req, _ := decode[statement.Request](t, env)
	req.Requester = "alice-bot"
	payload, err := statement.Encode(req)
	check(t, err)
	w.denied("a request in a machine's name, signed by its owner", w.envelope(payload, "alice"), items)
}

// A person counts once in the whole tree, with however many groups, credentials
// and machines.
func TestLeakOnePersonInTwoGroups(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{charter: func(w *world, c *charter.Charter) {
		for _, g := range []string{"release", "security"} {
			group := c.Groups[g]
			group.Members = []string{"alice", "bob", "carol", "dave"}
			c.Groups[g] = group
		}
		second := w.join("carol's second key", credentialtest.SSH("carol again"))
		second.Name = "carol"
		carol := c.People["carol"]
		carol.Credentials = append(carol.Credentials, charter.CredentialOf(second.Signer.Credential()))
		c.People["carol"] = carol
		bot := w.join("carol-gate", credentialtest.SSH("carol-gate"))
		c.Machines["carol-gate"] = charter.Machine{Owner: "carol", Credentials: []charter.Credential{charter.CredentialOf(bot.Signer.Credential())}}
		gates := c.Groups["gates"]
		gates.Members = append(gates.Members, "carol-gate")
		c.Groups["gates"] = gates
	}})
	items := w.items("two groups")
	env := w.ask("alice", "release", items)
	w.submit(env, items)
	if r := w.endorse(env, "carol", "scanner"); r.State != store.Pending {
		t.Fatalf("carol and a gate: %s", r.State)
	}
	// All that carol has, in every order.
	all := []string{"carol", "carol's second key", "carol-gate", "scanner"}
	for i := range all {
		var votes [][]byte
		for j := range all {
			votes = append(votes, w.endorsement(all[(i+j)%len(all)], env))
		}
		w.denied("one person, from "+all[i], env, items, votes...)
	}
	r, err := w.server.Get(w.ctx, idOf(t, env))
	check(t, err)
	v, err := w.server.View(w.ctx, r, true)
	check(t, err)
	if r.State != store.Pending || !strings.Contains(v.Decision.Missing, "1 more of") {
		t.Errorf("%s, missing %q", r.State, v.Decision.Missing)
	}
	w.endorse(env, "dave")
	w.await(idOf(t, env), store.Executed)
}

// Members are those of now, when a vote is counted and when the command is
// executed; and whoever looks is told whose vote has lapsed.
func TestLeakMembershipFrozen(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	out := func(group, name string) func(c *charter.Charter) {
		return func(c *charter.Charter) {
			g := c.Groups[group]
			g.Members = without(g.Members, name)
			c.Groups[group] = g
		}
	}
	in := func(group, name string) func(c *charter.Charter) {
		return func(c *charter.Charter) {
			g := c.Groups[group]
			g.Members = append(g.Members, name)
			c.Groups[group] = g
		}
	}
	why := func(id statement.ID) string {
		r, err := w.server.Get(w.ctx, id)
		check(t, err)
		v, err := w.server.View(w.ctx, r, true)
		check(t, err)
		var s []string
		for _, x := range v.Decision.Votes {
			s = append(s, x.Why)
		}
		return r.Detail + "; " + strings.Join(s, "; ")
	}

	// Removed while votes are collected.
	items := w.items("removed while pending")
	env := w.ask("alice", "release", items)
	w.submit(env, items)
	w.endorse(env, "bob", "carol")
	w.replace(out("security", "carol"))
	if r := w.endorse(env, "scanner"); r.State != store.Pending {
		t.Fatalf("with the vote of a removed member: %s", r.State)
	}
	if s := why(idOf(t, env)); !strings.Contains(s, "lapsed: carol is no longer a member of security") {
		t.Errorf("said is %q", s)
	}
	w.denied("the keeper, of a removed member", env, items, w.everyone(env)...)
	w.refused("a new vote of the removed member", w.verdict("carol", env, statement.Endorse, "again"))
	w.endorse(env, "dave")
	w.await(idOf(t, env), store.Executed)
	w.replace(in("security", "carol"))

	// Removed between the last endorsement and the execution, which waits for a key.
	w.do(statement.Command{Name: statement.KeySuspend, Key: &statement.KeyArgs{Key: "release"}})
	items = w.items("removed while endorsed")
	env = w.ask("alice", "release", items)
	w.submit(env, items)
	if r := w.endorse(env, "bob", "carol", "scanner"); r.State != store.Endorsed {
		t.Fatalf("with everybody: %s", r.State)
	}
	w.replace(out("security", "carol"))
	w.do(statement.Command{Name: statement.KeyResume, Key: &statement.KeyArgs{Key: "release"}})
	w.pass(leftBehind)
	check(t, w.server.Execute(w.ctx, idOf(t, env)))
	r := w.await(idOf(t, env), store.Pending)
	if s := why(idOf(t, env)); r.Code != "quorum-pending" || !strings.Contains(s, "lapsed: carol is no longer a member of security") {
		t.Errorf("%s: said is %q", r.Code, s)
	}
	w.endorse(env, "dave")
	w.await(idOf(t, env), store.Executed)

	// A credential that was taken away is no longer its owner's.
	stolen := w.people.People["dave"]
	fresh := w.join("dave's new key", credentialtest.SSH("dave's new key"))
	fresh.Name = "dave"
	items = w.items("stolen key")
	env = w.ask("alice", "release", items)
	w.submit(env, items)
	w.endorse(env, "bob", "dave")
	w.replace(func(c *charter.Charter) {
		p := c.People["dave"]
		p.Credentials = []charter.Credential{charter.CredentialOf(fresh.Signer.Credential())}
		c.People["dave"] = p
	})
	if r := w.endorse(env, "scanner"); r.State != store.Pending {
		t.Fatalf("with the vote of a stolen key: %s", r.State)
	}
	w.denied("a stolen key", env, items, w.everyone(env)[0], w.endorsement("scanner", env), w.endorsement(stolen.Name, env))
	w.pass(2 * time.Second) // a verdict is known by what it says, the second included
	w.endorse(env, "dave's new key")
	w.await(idOf(t, env), store.Executed)
}

func without(list []string, name string) []string {
	var out []string
	for _, s := range list {
		if s != name {
			out = append(out, s)
		}
	}
	return out
}

// A charter whose quorum is nobody, anybody by accident, or beyond reach is not
// accepted: not at the founding, not as a successor, by server or keeper.
func TestLeakDefaultApproverIsAnybody(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	_, good := w.next(func(*charter.Charter) {})
	edit := func(payload []byte, from, to string) []byte {
		t.Helper()
		if bytes.Count(payload, []byte(from)) == 0 {
			t.Fatalf("%s is not in the charter", from)
		}
		return bytes.ReplaceAll(payload, []byte(from), []byte(to))
	}
	release := `"quorum":{"need":3,"of":[{"group":"release"},{"group":"security"},{"group":"gates"}]},`
	replace := `"charter.replace":{"requesters":["officers"],"quorum":{"need":2,"group":"officers"}}`
	bad := map[string][]byte{
		"no quorum, and not unattended":     edit(good, release, ""),
		"an empty tree":                     edit(good, release, `"quorum":{},`),
		"nobody is needed":                  edit(good, release, `"quorum":{"need":0,"of":[{"group":"release"}]},`),
		"more than there are":               edit(good, release, `"quorum":{"need":4,"of":[{"group":"release"},{"group":"security"},{"group":"gates"}]},`),
		"a group that is not there":         edit(good, release, `"quorum":{"group":"everybody"},`),
		"a group that is empty":             edit(good, `"gates":{"members":["scanner"]}`, `"gates":{"members":[]}`),
		"more members than the group has":   edit(good, release, `"quorum":{"need":5,"group":"release"},`),
		"only the requester himself":        edit(good, release, `"quorum":{"member":"alice"},`),
		"machines in the place of people":   edit(good, release, `"quorum":{"need":1,"of":[{"group":"release"},{"group":"gates"}]},`),
		"the charter by anybody":            edit(good, replace, `"charter.replace":{"requesters":["officers"],"unattended":true}`),
		"the charter by one, unsaid":        edit(good, replace, `"charter.replace":{"requesters":["officers"],"quorum":{"group":"officers"}}`),
		"the charter by a gate":             edit(good, replace, `"charter.replace":{"requesters":["officers"],"quorum":{"need":1,"group":"gates"}}`),
		"the charter by nobody":             edit(good, replace, `"charter.replace":{"requesters":["officers"]}`),
		"unattended, and a quorum":          edit(good, release, `"unattended":true,`+release),
		"anybody asks":                      edit(good, `"requesters":["release"],`+release, `"requesters":[],`+release),
		"one credential for two people":     swapCredential(t, good, "bob", "alice"),
		"two people who are one credential": swapCredential(t, good, "dave", "carol"),
	}
	for what, payload := range bad {
		if _, err := charter.Decode(payload); err == nil {
			t.Errorf("%s: the charter passes its check", what)
		}
		env := w.request("alice", statement.Command{Name: statement.CharterReplace, Charter: &statement.CharterArgs{Statement: payload}})
		if _, _, err := w.server.Submit(w.ctx, env, nil); err == nil {
			t.Errorf("%s: the server took it", what)
		}
		rc, _, err := w.keeperSays(env, nil, w.endorsement("carol", env), w.endorsement("dave", env))
		check(t, err)
		if rc.Outcome != statement.Refused || rc.Code != "charter-invalid" {
			t.Errorf("%s: the keeper says %s %s", what, rc.Outcome, rc.Code)
		}
	}
	if st := w.status(); st.Charter.Version != 1 {
		t.Fatalf("charter %d is in force", st.Charter.Version)
	}

	// A keeper is not founded on one either.
	w2 := newUnfounded(t, options{})
	payload, err := charter.Encode(w2.people.Charter)
	check(t, err)
	env := w2.envelope(edit(payload, release, ""), "alice", "carol", "dave")
	w2.people.Root = idOf(t, env)
	w2.closeKeeper()
	w2.openKeeper()
	if err := w2.keeper.Found(w2.ctx, env); keeper.ErrorCode(err) != "malformed" {
		t.Errorf("founding: %v", err)
	}
	w2.closeKeeper()
}

// swapCredential gives a person another one's credentials.
func swapCredential(t *testing.T, payload []byte, of, like string) []byte {
	t.Helper()
	c, err := charter.Decode(payload)
	check(t, err)
	from, to := c.People[of].Credentials[0].SSH, c.People[like].Credentials[0].SSH
	out := bytes.Replace(payload, []byte(from), []byte(to), 1)
	if bytes.Equal(out, payload) {
		t.Fatal("nothing was swapped")
	}
	return out
}
