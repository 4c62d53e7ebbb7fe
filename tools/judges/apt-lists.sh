#!/bin/bash
# What Debian publishes, signed: InRelease files as apt-get has accepted them.
set -euo pipefail
ls /var/lib/apt/lists/*_dists_*_InRelease >/dev/null 2>&1 || apt-get update -q
