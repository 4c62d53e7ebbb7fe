package firewall

import "fmt"

// parents is the tree of tags; a rule for a tag is one for all tags below it.
var parents = map[string]string{
	"DATABASES": "ANY", "JDBC": "DATABASES",
	"WINDOWS": "ANY", "POWERSHELL": "WINDOWS", "WMI": "WINDOWS", "WINRM": "WINDOWS",
	"SSH": "ANY", "SCP": "SSH", "SFTP": "SSH",
	"HTTP": "ANY", "REST": "HTTP", "SOAP": "HTTP",
	"JAVASCRIPT": "ANY",
	"COMMAND":    "ANY", "SHELL": "COMMAND", "PYTHON": "COMMAND",
}

// topics are the queue's names of what tags stand for.
var topics = map[string]string{
	"JDBCProbe": "JDBC", "Command": "COMMAND", "SSHCommand": "SSH", "Powershell": "POWERSHELL",
	"JavascriptProbe": "JAVASCRIPT", "RESTProbe": "REST", "SOAPProbe": "SOAP", "ShellScript": "SHELL", "PythonScript": "PYTHON",
}

// Tag is the tag of a topic of the queue, or of a tag itself.
func Tag(s string) (string, error) {
	if t, ok := topics[s]; ok {
		return t, nil
	}
	if _, ok := parents[s]; ok || s == "ANY" {
		return s, nil
	}
	return "", fmt.Errorf("firewall: %q is no topic and no tag", s)
}

// ancestors are the tag of a topic and all tags above it.
func ancestors(topic string) ([]string, error) {
	t, err := Tag(topic)
	if err != nil {
		return nil, err
	}
	out := []string{t}
	for t != "ANY" {
		t = parents[t]
		out = append(out, t)
	}
	return out, nil
}
