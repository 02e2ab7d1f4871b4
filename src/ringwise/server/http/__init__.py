"""The HTTP interface: what a request means and what it is answered, without a socket; `runtime/http.py` carries the bytes."""
