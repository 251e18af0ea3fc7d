"""HTTP: connections, requests, responses, errors, and the state that handlers share."""
