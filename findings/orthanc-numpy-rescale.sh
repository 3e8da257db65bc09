#!/usr/bin/env bash
# Orthanc's NumPy export rounds rescaled values down to whole numbers, in an array of floats.
#
# Version:   Orthanc 1.10.1 (Debian's orthanc); pydicom 3.0.2 and numpy 2.4.6 on the client's side
# Belief:    GET /series/.../numpy gives float32 values of stored * slope + intercept.
# Behaviour: the dtype is float32, but each value is rounded down to a whole number. A density map in mg/mL keeps a
#            handful of values and is half a unit too low on average. With ?rescale=0 the stored values come exactly,
#            to be multiplied on one's own.
# Seen:      right     float64  mean 1.247  256 values from -0.5000 to 2.9935
#            numpy     float32  mean 0.711  values [-1.0, 0.0, 1.0, 2.0]
#            rescale=0 int16, as stored: True
#
# Exit code: 0 while it is so, 1 if it has changed, 2 if it could not be tried.
set -euo pipefail

orthanc=$(command -v Orthanc || true)
[ -n "$orthanc" ] || [ ! -x /usr/sbin/Orthanc ] || orthanc=/usr/sbin/Orthanc
[ -n "$orthanc" ] || { echo "Orthanc is missing; install it (Debian: orthanc)." >&2; exit 2; }
venv=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2> /dev/null; wait; rm -rf "$venv"' EXIT
python3 -m venv "$venv" || exit 2
"$venv/bin/pip" install --quiet --disable-pip-version-check pydicom==3.0.2 numpy==2.4.6 || exit 2
cd "$venv"
port=$(bin/python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
cat > orthanc.json <<JSON
{"StorageDirectory": "$venv/storage", "HttpPort": $port, "RemoteAccessAllowed": false,
 "AuthenticationEnabled": false, "DicomServerEnabled": false, "Plugins": []}
JSON
"$orthanc" --version | sed -n '1s/.*Orthanc/Orthanc/p'
"$orthanc" orthanc.json > orthanc.log 2>&1 &
server=$!

"$venv/bin/python" - "$port" <<'PY'
import io
import json
import sys
import time
import urllib.error
import urllib.request

import numpy as np
import pydicom

server = f"http://127.0.0.1:{sys.argv[1]}"


def ask(path, body=None):
    return urllib.request.urlopen(urllib.request.Request(server + path, data=body), timeout=20).read()


for _ in range(60):
    try:
        ask("/system")
        break
    except urllib.error.URLError:
        time.sleep(0.5)
else:
    print("Orthanc did not start.")
    raise SystemExit(2)

stored = np.arange(256).reshape(16, 16)
ct = pydicom.examples.ct
ct.Rows, ct.Columns = stored.shape
ct.RescaleSlope, ct.RescaleIntercept = "0.0137", "-0.5"
ct.PixelData = stored.astype("<i2").tobytes()
file = io.BytesIO()
ct.save_as(file)
series = json.loads(ask("/instances", file.getvalue()))["ParentSeries"]
right = stored * 0.0137 - 0.5
rescaled, raw = (
    np.load(io.BytesIO(ask(f"/series/{series}/numpy{query}"))).squeeze() for query in ("", "?rescale=0")
)
span = f"{right.size} values from {right.min():.4f} to {right.max():.4f}"
print(f"right     {right.dtype}  mean {right.mean():.3f}  {span}")
print(f"numpy     {rescaled.dtype}  mean {rescaled.mean():.3f}  values {np.unique(rescaled).tolist()}")
print(f"rescale=0 {raw.dtype}, as stored: {np.array_equal(raw, stored)}")
as_stated = rescaled.dtype == np.float32 and np.array_equal(rescaled, np.floor(right)) and np.array_equal(raw, stored)
print("As stated." if as_stated else "CHANGED.")
raise SystemExit(not as_stated)
PY
