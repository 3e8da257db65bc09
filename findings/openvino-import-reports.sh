#!/usr/bin/env bash
# Importing openvino reports the import to its makers, by the package openvino-telemetry that it brings along.
#
# Version:   openvino 2026.4.1, openvino-telemetry 2025.2.0
# Belief:    A runtime for networks does not use the network when it is imported; telemetry belongs to the tools that
#            convert models, which ask first, and those are not used here.
# Behaviour: `import openvino` imports its conversion tool, which sends an event to a web analytics service and
#            writes an identifier and a count of imports into the user's home. Nobody is asked; it is sent unless the user
#            has opted out (or CI=true is set). A hospital's firewall sees it with the first slice. With the package
#            uninstalled openvino falls back to a stub of its own.
# Seen:      sent at import: https://www.google-analytics.com ov import general_import; in the home: openvino_ga_cid stats
#            without the package: in the home: nothing
#
# Exit code: 0 while it is so, 1 if it has changed, 2 if it could not be tried.
set -euo pipefail

venv=$(mktemp -d)
trap 'rm -rf "$venv"' EXIT
python3 -m venv "$venv" || exit 2
"$venv/bin/pip" install --quiet --disable-pip-version-check \
  openvino==2026.4.1 openvino-telemetry==2025.2.0 || exit 2
cd "$venv"
mkdir home later

# Nothing is sent here: what would be handed to the sending thread is caught.
cat > with.py <<'PY'
from openvino_telemetry.utils.sender import TelemetrySender


def caught(self, backend, message):
    for event in message["events"]:
        params = event["params"]
        print(backend.backend_url.split("/mp/")[0], params["event_category"], event["name"], params["event_label"])


TelemetrySender.send = caught
import openvino
PY
# A new user's home; a CI job is passed over by the package.
sent=$(env -u CI -u TF_BUILD -u JENKINS_URL HOME="$venv/home" bin/python with.py)
left=$(find home -type f -printf '%f\n' | sort | xargs)
bin/pip uninstall --quiet --yes openvino-telemetry
env -u CI -u TF_BUILD -u JENKINS_URL HOME="$venv/later" bin/python -c 'import openvino'
later=$(find later -type f -printf '%f\n' | sort | xargs)
echo "sent at import: $sent; in the home: $left"
echo "without the package: in the home: ${later:-nothing}"
[ "$sent" = "https://www.google-analytics.com ov import general_import" ] \
  && [ "$left" = "openvino_ga_cid stats" ] && [ -z "$later" ] \
  && echo "As stated." || { echo "CHANGED."; exit 1; }
