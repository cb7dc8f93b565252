# A request goes through the state machine twice: first as a question to the middleware, whose answer is kept by token,
# channel and address; if that is 200, again as the request for media, which are kept without the query.
vcl 4.1;

backend origin { .host = "{{.OriginName}}"; .port = "{{.OriginPort}}"; }
backend middleware { .host = "{{.AuthName}}"; .port = "{{.AuthPort}}"; }

sub vcl_recv {
	if (req.method != "GET" && req.method != "HEAD") {
		return (synth(405));
	}
	if (req.restarts == 0) {
		set req.http.X-Media = regsub(req.url, "\?.*$", "");
		set req.http.X-Token = "";
		if (req.url ~ "[?&]token=") {
			set req.http.X-Token = regsub(req.url, "^.*[?&]token=([^&]*).*$", "\1");
		}
		set req.url = "{{.AuthPath}}?token=" + req.http.X-Token + "&channel="
			+ regsub(req.http.X-Media, "^/(.*)/[^/]*$", "\1") + "&ip=" + client.ip;
		set req.backend_hint = middleware;
	} else {
		set req.url = req.http.X-Media;
		set req.backend_hint = origin;
	}
	unset req.http.Cookie;
	unset req.http.Authorization;
	return (hash);
}

sub vcl_hash {
	hash_data(req.url);
	hash_data(req.restarts);
	return (lookup);
}

sub vcl_backend_response {
	if (bereq.backend == middleware) {
		set beresp.grace = 0s;
		set beresp.keep = 0s;
		if (beresp.status == 200) {
			set beresp.ttl = {{.AuthTTLSeconds}}s;
		} elsif (beresp.status == 401 || beresp.status == 403) {
			set beresp.ttl = 10s;
		} else {
			set beresp.uncacheable = true;
			set beresp.ttl = 0s;
		}
	}
	return (deliver);
}

sub vcl_deliver {
	if (req.restarts == 0) {
		if (resp.status == 200) {
			return (restart);
		}
		if (resp.status != 401 && resp.status != 403) {
			set resp.status = 503;
		}
	}
}
