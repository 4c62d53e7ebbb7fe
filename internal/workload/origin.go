package workload

import (
	"fmt"
	"net/url"
	"strings"
)

// maxOrigin is how long a value of the origin may be: a request has room for more, and
// nobody reads more.
const maxOrigin = 512

// Origin is where a job comes from, as the environment of GitHub Actions, GitLab CI
// or Jenkins says: repository, commit, ref, build. It is nil elsewhere. It is the
// requester's word; what a token says is the issuer's.
func Origin(getenv func(string) string) map[string]string {
	out := map[string]string{}
	put := func(name, value string) {
		value = strings.Map(func(r rune) rune {
			if r < 0x20 || r == 0x7f {
				return -1
			}
			return r
		}, strings.ToValidUTF8(value, ""))
		if len(value) > maxOrigin {
			value = strings.ToValidUTF8(value[:maxOrigin], "")
		}
		if value != "" {
			out[name] = value
		}
	}
	switch {
	case getenv("GITHUB_ACTIONS") == "true":
		put("repository", join(getenv("GITHUB_SERVER_URL"), getenv("GITHUB_REPOSITORY")))
		put("commit", getenv("GITHUB_SHA"))
		put("ref", getenv("GITHUB_REF"))
		if run := getenv("GITHUB_RUN_ID"); run != "" {
			put("build", fmt.Sprintf("%s/actions/runs/%s/attempts/%s", join(getenv("GITHUB_SERVER_URL"), getenv("GITHUB_REPOSITORY")), run, or(getenv("GITHUB_RUN_ATTEMPT"), "1")))
		}
	case getenv("GITLAB_CI") == "true":
		put("repository", getenv("CI_PROJECT_URL"))
		put("commit", getenv("CI_COMMIT_SHA"))
		put("ref", or(getenv("CI_COMMIT_TAG"), getenv("CI_COMMIT_REF_NAME")))
		put("build", getenv("CI_JOB_URL"))
	case getenv("JENKINS_URL") != "":
		put("repository", plain(getenv("GIT_URL")))
		put("commit", getenv("GIT_COMMIT"))
		put("ref", or(getenv("TAG_NAME"), or(getenv("BRANCH_NAME"), getenv("GIT_BRANCH"))))
		put("build", getenv("BUILD_URL"))
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// plain is a URL without the password or token that some set-ups put into it: before the
// host, or as a parameter. Of ssh the name stays, without which nobody gets there.
func plain(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		if strings.Contains(s, "://") {
			return "" // a password with odd characters: rather nothing
		}
		return s // git@host:path
	}
	if u.Host == "" {
		if strings.Contains(u.Opaque, "@") {
			return "" // name:password@host
		}
		return s // host:path, /srv/git/app
	}
	if u.User != nil && u.Scheme == "ssh" {
		u.User = url.User(u.User.Username())
	} else {
		u.User = nil
	}
	u.RawQuery, u.ForceQuery, u.Fragment, u.RawFragment = "", false, "", ""
	return u.String()
}

func join(server, path string) string {
	if server == "" || path == "" {
		return path
	}
	return strings.TrimSuffix(server, "/") + "/" + path
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
