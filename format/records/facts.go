package records

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/record"
)

// maxListed is how many tables, and how many configurations, are facts of their own.
// The job holds all of them.
const maxListed = 64

// facts are what endorsers see of a job.
func facts(j *record.Job) []format.Fact {
	f := []format.Fact{
		{Name: "job", Value: j.ID},
		{Name: "issuer", Value: j.Issuer},
		{Name: "audience", Value: audience(j.Audience)},
		{Name: "records", Value: strconv.FormatInt(j.Count-j.Deletions, 10)},
		{Name: "deletions", Value: strconv.FormatInt(j.Deletions, 10)},
		{Name: "revisions", Value: fmt.Sprintf("%d to %d", j.LowestRevision, j.LatestRevision)},
	}
	if j.NotBefore > 0 {
		f = append(f, format.Fact{Name: "valid from", Value: date(j.NotBefore)})
	}
	if j.Expires > 0 {
		f = append(f, format.Fact{Name: "valid until", Value: date(j.Expires)})
	}
	for _, p := range j.Purposes {
		f = append(f, format.Fact{Name: "purpose", Value: p})
	}
	for i, t := range j.Tables {
		if i == maxListed {
			f = append(f, format.Fact{Name: "further tables", Value: strconv.Itoa(len(j.Tables) - i)})
			break
		}
		f = append(f, format.Fact{Name: "table " + t.Table, Value: strconv.FormatInt(t.Count, 10)})
	}
	for i, c := range j.Configurations {
		if i == maxListed {
			f = append(f, format.Fact{Name: "further configurations", Value: strconv.Itoa(len(j.Configurations) - i)})
			break
		}
		f = append(f, format.Fact{Name: "configuration " + c.ID, Value: fmt.Sprintf("version %d, %s", c.Version, hex.EncodeToString(c.Digest[:]))})
	}
	return f
}

func audience(list []string) string {
	if len(list) == 0 {
		return "every instance of the circle"
	}
	s := strings.Join(list, ", ")
	if len(s) > format.MaxText { // 64 names of 64 bytes and what is between them
		s = strings.Join(list, ",")
	}
	if len(s) > format.MaxText {
		return fmt.Sprintf("%d instances", len(list))
	}
	return s
}

func date(seconds int64) string { return time.Unix(seconds, 0).UTC().Format(time.RFC3339) }
