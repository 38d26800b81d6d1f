#!/usr/bin/env bash
# Installs what the tests use of Debian where it is missing and this user may. What stays
# missing is named; tests that need it are skipped, and say so.
set -euo pipefail

# tool:package
wanted=(
	age:age zstd:zstd jq:jq ssh-keygen:openssh-client tar:tar
	systemd-analyze:systemd chromium:chromium sqlite3:sqlite3 psql:postgresql-client mariadb:mariadb-client
)
servers=(postgresql mariadb-server)
products=(mediawiki php-cli php-sqlite3) # of make test-saas

# axe-core, which looks for what keeps people from reading the report.
if command -v npm >/dev/null && [[ ! -d verify/testdata/axe/node_modules/axe-core ]]; then
	(cd verify/testdata/axe && npm install --no-audit --no-fund --no-package-lock --silent >/dev/null 2>&1) ||
		echo "could not be installed: axe-core"
fi

missing=()
for w in "${wanted[@]}"; do
	command -v "${w%%:*}" >/dev/null || missing+=("${w##*:}")
done
compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || missing+=("${servers[0]}")
[[ -x /usr/sbin/mariadbd ]] || missing+=("${servers[1]}")
[[ -z ${SALLYPORT_TEST_SAAS:-} || -e /usr/share/mediawiki/api.php ]] || missing+=("${products[@]}")
[[ ${#missing[@]} -gt 0 ]] || exit 0

sudo=()
if [[ $(id -u) -ne 0 ]]; then
	if ! sudo -n true 2>/dev/null; then
		echo "not installed, and not ours to install: ${missing[*]}"
		exit 0
	fi
	sudo=(sudo -n)
fi
if ! command -v apt-get >/dev/null; then
	echo "not installed, and there is no apt-get: ${missing[*]}"
	exit 0
fi

# RUNLEVEL=1: the packages' own servers are not started; the tests start private ones.
install=("${sudo[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -qq --yes --no-install-recommends "${missing[@]}")
if ! "${install[@]}" >/dev/null 2>&1; then
	"${sudo[@]}" apt-get update -qq || true
	"${install[@]}" >/dev/null || echo "could not be installed: ${missing[*]}"
fi
