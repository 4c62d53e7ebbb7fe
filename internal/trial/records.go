package trial

import (
	"cmp"
	"slices"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/key"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/sigalg"
)

// Workshop is the trusted instance of a trial, and Clerk the machine in whose name it
// asks for signatures of records and for freshness statements.
const (
	Workshop = "workshop"
	Clerk    = "clerk"
)

// Records has a trial sign records that execute; the zero value is a workshop with
// the configurations of this package.
type Records struct {
	Instance       string                          // the trusted one; default Workshop
	Configurations map[string]record.Configuration // default Configurations()
}

// Configurations are signature configurations for trying out. Script includes (sys_script_include) and
// business rules are signed under record.Predefined, which is in force everywhere.
func Configurations() map[string]record.Configuration {
	return map[string]record.Configuration{
		"sources": {
			Version: 1, Table: "sys_data_source", Purpose: record.Queue, Condition: "type == 'JDBC'",
			Fields: []string{
				"connection_url", "connection_url_parameters", "credential", "database_name", "database_port", "format", "import_set_table_name", "instance_name",
				"jdbc_server", "last_run_database_field", "mid_server", "name", "properties", "query", "sql_statement", "table_name", "type",
			},
			Parameters: []string{"last_run_datetime", "minimum"},
		},
		"agent-includes": {
			Version: 1, Table: "ecc_agent_script_include", Purpose: record.Queue, Attachments: true,
			Fields: []string{"active", "includes", "name", "script", "use_attachment"},
		},
		"agent-scripts": {
			Version: 1, Table: "ecc_agent_script_file", Purpose: record.Queue, Attachments: true,
			Fields: []string{"active", "attachment", "includes", "language", "name", "network", "script", "use_attachment"},
		},
	}
}

// records lets a charter sign records and what a circle of trust says:
//
//	records  key records: the clerk or release asks, release and security agree
//	circle   key circle: an officer asks, two others agree
//	fresh    key fresh: the clerk, unattended
func (t *Trial) records(c *charter.Charter, o Options) {
	r := &charter.Records{Instance: cmp.Or(o.Records.Instance, Workshop), Configurations: o.Records.Configurations}
	if r.Configurations == nil {
		r.Configurations = Configurations()
	}
	purposes := []string{record.Wildcard, record.Queue}
	for _, x := range r.Configurations {
		purposes = append(purposes, x.Purpose)
	}
	slices.Sort(purposes)
	c.Records = r
	c.Machines[Clerk] = charter.Machine{Credentials: t.credentials(Clerk)}
	for name, a := range map[string]sigalg.Key{"records": sigalg.P256, "circle": sigalg.Ed25519, "fresh": sigalg.Ed25519} {
		c.Keys[name] = charter.Key{URI: key.URI("soft:" + name), Algorithm: a}
	}
	both := &charter.Node{Need: 2, Of: []charter.Node{{Group: "release"}, {Group: "security"}}}
	signed := charter.Policy{Key: "records", Formats: []string{"records"}, Purposes: slices.Compact(purposes),
		Rule: charter.Rule{Requesters: []string{Clerk, "release"}, Quorum: both, Veto: []string{"security"}}}
	if o.Timestamps {
		signed.Timestamp = []string{"self"}
	}
	c.Policies["records"] = signed
	c.Policies["circle"] = charter.Policy{Key: "circle", Formats: []string{"circle"}, Purposes: []string{record.Circle},
		Rule: charter.Rule{Requesters: []string{"officers"}, Quorum: &charter.Node{Group: "officers", Need: 2}}}
	c.Policies["fresh"] = charter.Policy{Key: "fresh", Formats: []string{"circle"}, Purposes: []string{record.Freshness},
		Rule: charter.Rule{Requesters: []string{Clerk}, Unattended: true}}
}
