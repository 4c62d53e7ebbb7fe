// Package notifytest runs a real mail server for tests: aiosmtpd of Debian, which
// answers as a test says.
package notifytest

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	_ "embed"
	"encoding/json/v2"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

//go:embed smtpd.py
var script []byte

// Mail is one mail as the server has seen it.
type Mail struct {
	From          string   `json:"from"`
	To            []string `json:"to"`
	TLS           bool     `json:"tls"`
	Authenticated bool     `json:"authenticated"`
	Data          string   `json:"data"`
	Command       string   `json:"command"`
}

// Parse reads a mail's header and its parts by content type.
func (m Mail) Parse(tb testing.TB) (mail.Header, map[string]string) {
	tb.Helper()
	msg, err := mail.ReadMessage(strings.NewReader(m.Data))
	if err != nil {
		tb.Fatalf("mail: %v\n%s", err, m.Data)
	}
	_, boundary, _ := strings.Cut(msg.Header.Get("Content-Type"), "boundary=")
	r := multipart.NewReader(msg.Body, strings.Trim(strings.Split(boundary, ";")[0], `" `))
	parts := map[string]string{}
	for {
		p, err := r.NextRawPart()
		if err == io.EOF {
			return msg.Header, parts
		}
		if err != nil {
			tb.Fatalf("mail: %v\n%s", err, m.Data)
		}
		b, err := io.ReadAll(quotedprintable.NewReader(p))
		if err != nil {
			tb.Fatal(err)
		}
		kind, _, _ := strings.Cut(p.Header.Get("Content-Type"), ";")
		parts[kind] = strings.ReplaceAll(string(b), "\r\n", "\n")
	}
}

// Server is a mail server on loopback, in a process of its own.
type Server struct {
	Port  int
	Roots *x509.CertPool // its certificate is for "localhost" and 127.0.0.1

	Certificate []byte // the same, DER

	tb    testing.TB
	stdin io.WriteCloser
	ack   chan string
	mu    sync.Mutex
	mails []Mail
	news  chan struct{}
}

// Start runs a server; mode is "starttls", "implicit" or "plain". It ends with the
// test.
func Start(tb testing.TB, mode string) *Server {
	tb.Helper()
	dir := tb.TempDir()
	s := &Server{tb: tb, ack: make(chan string, 1), news: make(chan struct{}, 1)}
	cert, key := s.certificate(dir, "localhost")
	path := filepath.Join(dir, "smtpd.py")
	if err := os.WriteFile(path, script, 0o600); err != nil {
		tb.Fatal(err)
	}
	if err := exec.Command("/usr/bin/python3", "-c", "import aiosmtpd").Run(); err != nil {
		tb.Fatal("aiosmtpd is missing: apt-get install python3-aiosmtpd")
	}
	c := exec.Command("/usr/bin/python3", path, mode, cert, key)
	c.Stderr = io.Discard
	var err error
	if s.stdin, err = c.StdinPipe(); err != nil {
		tb.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := c.Start(); err != nil {
		tb.Fatalf("python3: %v: apt-get install python3-aiosmtpd", err)
	}
	tb.Cleanup(func() { c.Process.Kill(); c.Wait() })
	r := bufio.NewReader(out)
	line, err := r.ReadString('\n')
	if err != nil {
		tb.Fatalf("the mail server: %v", err)
	}
	if s.Port, err = strconv.Atoi(strings.TrimSpace(line)); err != nil {
		tb.Fatal(err)
	}
	go s.read(r)
	return s
}

func (s *Server) read(r *bufio.Reader) {
	for {
		line, err := r.ReadBytes('\n')
		if err != nil {
			return
		}
		var m Mail
		if json.Unmarshal(line, &m) != nil {
			continue
		}
		if m.Command != "" {
			s.ack <- m.Command
			continue
		}
		s.mu.Lock()
		s.mails = append(s.mails, m)
		s.mu.Unlock()
		select {
		case s.news <- struct{}{}:
		default:
		}
	}
}

// Say has the server answer otherwise from now on: "ok", "rcpt 550 no such user",
// "data 451 later", "drop", "swallow", "auth USER PASSWORD".
func (s *Server) Say(format string, args ...any) {
	s.tb.Helper()
	if _, err := fmt.Fprintf(s.stdin, format+"\n", args...); err != nil {
		s.tb.Fatal(err)
	}
	select {
	case <-s.ack:
	case <-time.After(time.Minute):
		s.tb.Fatal("the mail server does not listen")
	}
}

// Mails are those that have come.
func (s *Server) Mails() []Mail {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Mail(nil), s.mails...)
}

// Wait returns when n mails have come, at the latest after a minute.
func (s *Server) Wait(n int) []Mail {
	s.tb.Helper()
	end := time.After(time.Minute)
	for {
		if m := s.Mails(); len(m) >= n {
			return m
		}
		select {
		case <-s.news:
		case <-time.After(50 * time.Millisecond):
		case <-end:
			s.tb.Fatalf("%d mails have come, not %d", len(s.Mails()), n)
		}
	}
}

func (s *Server) certificate(dir, host string) (cert, key string) {
	s.tb.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		s.tb.Fatal(err)
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, t, t, k.Public(), k)
	if err != nil {
		s.tb.Fatal(err)
	}
	kd, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		s.tb.Fatal(err)
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	pemCert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for path, b := range map[string][]byte{cert: pemCert, key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: kd})} {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			s.tb.Fatal(err)
		}
	}
	s.Roots, s.Certificate = x509.NewCertPool(), der
	s.Roots.AppendCertsFromPEM(pemCert)
	return cert, key
}
