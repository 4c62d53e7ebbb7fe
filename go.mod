module github.com/greatseal-io/greatseal

go 1.27.0

require (
	cel.dev/cel-go v0.33.2 // conditions of signature configurations; never in the keeper
	filippo.io/edwards25519 v1.2.0 // whether an Ed25519 key is a point of the curve, and of large order
	github.com/ProtonMail/go-crypto v1.5.2 // tests: a second OpenPGP, and the only one at hand for version 6
	github.com/chromedp/cdproto v0.159.0 // tests: the protocol of chromedp
	github.com/chromedp/chromedp v0.23.0 // tests: drives a real Chromium
	github.com/coreos/go-oidc/v3 v3.21.0 // OpenID discovery, identity and logout tokens
	github.com/danielgtaylor/huma/v2 v2.39.0 // HTTP API whose OpenAPI 3.1 document follows from the Go types
	github.com/descope/virtualwebauthn v1.0.3 // tests: an authenticator that makes passkey assertions
	github.com/dop251/goja v0.0.0-20260917113740-793a2a65c13b // JavaScript of script includes and business rules, run by agents
	github.com/fxamacker/cbor/v2 v2.9.6 // deterministic CBOR with a strict decoder: plans, items, log entries, the keeper's protocol
	github.com/go-jose/go-jose/v4 v4.1.4 // key sets and signatures of OpenID providers; tests: a second signer and verifier of JWS
	github.com/go-sql-driver/mysql v1.10.1 // MariaDB and MySQL: platforms of records, targets of data sources
	github.com/go-webauthn/webauthn v0.18.2 // tests: a second verifier of passkey assertions
	github.com/google/go-containerregistry v0.20.6 // tests: a registry
	github.com/jackc/pgx/v5 v5.12.0 // PostgreSQL, with pipelined statements
	github.com/klauspost/compress v1.20.1 // Zstandard, held to limits; never in the keeper
	github.com/miekg/pkcs11 v1.1.2 // PKCS #11 bindings; the only cgo, in the keeper's module process
	github.com/nicholas-fedor/shoutrrr v0.13.2 // addresses and forms of chat services
	github.com/opencontainers/go-digest v1.0.0 // the type of digests in oras-go's interface
	github.com/opencontainers/image-spec v1.1.1 // OCI manifests as Go types
	github.com/pressly/goose/v3 v3.29.0 // schema migrations
	github.com/prometheus/client_golang v1.25.0 // metrics; not in the keeper
	github.com/rogpeppe/go-internal v1.16.0 // a lock between processes on every system; tests: command-line stories (testscript)
	github.com/schollz/progressbar/v3 v3.19.1 // progress on a terminal
	github.com/secure-systems-lab/go-securesystemslib v0.11.1 // tests: a second verifier of DSSE envelopes
	github.com/spf13/cobra v1.10.2 // command line, completion, help
	github.com/spf13/pflag v1.0.10 // flags of cobra, walked for the man pages
	github.com/standard-webhooks/standard-webhooks/libraries v0.0.1 // tests: a second verifier of webhook signatures
	github.com/therootcompany/xz v1.0.1 // xz with a limit on the dictionary, which others lack; never in the keeper
	github.com/transparency-dev/formats v0.1.1 // tests: a second reader of checkpoints
	github.com/transparency-dev/merkle v0.0.2 // tests: a second verifier of log proofs
	github.com/transparency-dev/tessera v1.0.4 // tests: a second reader and checker of our log tiles
	github.com/veraison/go-cose v1.3.0 // tests: a second signer and verifier of COSE
	github.com/wneessen/go-mail v0.8.1 // mail: STARTTLS, authentication, MIME
	go.yaml.in/yaml/v3 v3.0.6 // charter and configuration for people, unknown fields refused
	golang.org/x/crypto v0.58.0 // SSH keys and agents, argon2, DER reading (cryptobyte)
	golang.org/x/mod v0.42.0 // Merkle log and signed notes (sumdb/tlog, sumdb/note)
	golang.org/x/net v0.61.0 // tests: reads the pages of the console
	golang.org/x/oauth2 v0.37.0 // authorization code flow with PKCE
	golang.org/x/sync v0.24.0 // one execution for concurrent callers (singleflight), bounded bytes in flight (semaphore)
	golang.org/x/sys v0.49.0 // reflinks, file locks, peer credentials, resource limits
	golang.org/x/term v0.47.0 // passphrases and progress on a terminal
	golang.org/x/time v0.16.0 // rate limits of the API
	modernc.org/sqlite v1.61.1 // SQLite without cgo: the embedded default
	oras.land/oras-go/v2 v2.6.4 // OCI registries: authentication, referrers with and without the API
	pgregory.net/rapid v1.3.0 // tests: properties
)

require (
	cel.dev/expr v0.25.1 // indirect
	filippo.io/mldsa v0.0.0-20260215214346-43d0283efc3e // indirect
	github.com/antlr4-go/antlr/v4 v4.13.1 // indirect
	github.com/beorn7/perks v1.0.1 // indirect
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/cloudflare/circl v1.6.3 // indirect
	github.com/dlclark/regexp2/v2 v2.5.2 // indirect
	github.com/dustin/go-humanize v1.1.0 // indirect
	github.com/go-json-experiment/json v0.0.0-20260213210345-44df1a37e875 // indirect
	github.com/go-logr/logr v1.4.4 // indirect
	github.com/go-logr/stdr v1.2.2 // indirect
	github.com/go-sourcemap/sourcemap v2.1.3+incompatible // indirect
	github.com/go-viper/mapstructure/v2 v2.5.0 // indirect
	github.com/go-webauthn/x v0.3.1 // indirect
	github.com/golang-jwt/jwt/v5 v5.3.1 // indirect
	github.com/google/go-tpm v0.9.8 // indirect
	github.com/google/pprof v0.0.0-20261016150608-1facf8f91b50 // indirect
	github.com/google/uuid v1.6.0 // indirect
	github.com/inconshreveable/mousetrap v1.1.0 // indirect
	github.com/jackc/pgpassfile v1.0.0 // indirect
	github.com/jackc/pgservicefile v0.0.0-20240606120523-5a60cdf6a761 // indirect
	github.com/jackc/puddle/v2 v2.2.3 // indirect
	github.com/mattn/go-colorable v0.1.14 // indirect
	github.com/mattn/go-isatty v0.0.24 // indirect
	github.com/mfridman/interpolate v0.0.2 // indirect
	github.com/mitchellh/colorstring v0.0.0-20190213212951-d06e56a500db // indirect
	github.com/munnerz/goautoneg v0.0.0-20191010083416-a7dc8b61c822 // indirect
	github.com/ncruces/go-strftime v1.1.0 // indirect
	github.com/philhofer/fwd v1.2.0 // indirect
	github.com/prometheus/client_model v0.6.3 // indirect
	github.com/prometheus/common v0.72.0 // indirect
	github.com/prometheus/procfs v0.22.0 // indirect
	github.com/remyoudompheng/bigfft v0.0.0-20230129092748-24d4a6f8daec // indirect
	github.com/rivo/uniseg v0.4.7 // indirect
	github.com/sethvargo/go-retry v0.5.0 // indirect
	github.com/tinylib/msgp v1.6.4 // indirect
	github.com/x448/float16 v0.8.4 // indirect
	go.opentelemetry.io/auto/sdk v1.2.1 // indirect
	go.opentelemetry.io/otel v1.47.0 // indirect
	go.opentelemetry.io/otel/log v1.47.0 // indirect
	go.opentelemetry.io/otel/metric v1.47.0 // indirect
	go.opentelemetry.io/otel/trace v1.47.0 // indirect
	go.uber.org/multierr v1.11.0 // indirect
	golang.org/x/exp v0.0.0-20261014143641-f0251eb4aa3e // indirect
	golang.org/x/text v0.43.0 // indirect
	golang.org/x/tools v0.52.0 // indirect
	google.golang.org/genproto/googleapis/api v0.0.0-20261005182115-fad411399dd8 // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20261005182115-fad411399dd8 // indirect
	google.golang.org/protobuf v1.36.12 // indirect
	k8s.io/klog/v2 v2.130.1 // indirect
	modernc.org/libc v1.79.0 // indirect
	modernc.org/mathutil v1.7.1 // indirect
	modernc.org/memory v1.12.1 // indirect
)

// A test of a dependency wants a version that cannot be had; nothing of ours does.
replace github.com/google/pprof => github.com/google/pprof v0.0.0-20260906184651-6331bc6350fe
