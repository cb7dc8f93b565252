-- Asks Usher about a request, as forward-auth does, which HAProxy lacks. It needs the HTTP client of HAProxy 2.5 or newer.
-- Load it in the global section:
--
--   lua-load /etc/haproxy/usher.lua
--   http-request lua.usher http://127.0.0.1:8080/auth/haproxy
--
-- It sets txn.usher_status to 200 if the viewer is allowed, or to the status to answer with: 302, 401, 403, 503 or another.
-- It sets txn.usher_location, txn.usher_challenge, txn.usher_retry and txn.usher_cookie to Location, the first
-- WWW-Authenticate, Retry-After and Set-Cookie of the response. Without a response the status is 502.

-- Header fields of the connection, and those that this script sets: not passed on from the viewer.
local excluded = {
	["connection"] = true, ["content-length"] = true, ["expect"] = true, ["host"] = true, ["keep-alive"] = true,
	["te"] = true, ["transfer-encoding"] = true, ["upgrade"] = true, ["forwarded"] = true,
}

local function is_excluded(name)
	return excluded[name] or name:sub(1, 12) == "x-forwarded-"
end

local function first(fields, name)
	local values = fields and fields[name]
	if values == nil then
		return ""
	end
	return values[0] or values[1] or ""
end

core.register_action("usher", { "http-req" }, function(txn, url)
	local headers = {}
	for name, values in pairs(txn.http:req_get_headers()) do
		if not is_excluded(name) then
			local list = {}
			for _, value in pairs(values) do
				list[#list + 1] = value
			end
			headers[name] = list
		end
	end
	local scheme = "http"
	if txn.f:ssl_fc() == 1 then
		scheme = "https"
	end
	headers["x-forwarded-method"] = { txn.f:method() }
	headers["x-forwarded-proto"] = { scheme }
	headers["x-forwarded-host"] = { txn.f:req_hdr("host") or "" }
	headers["x-forwarded-uri"] = { txn.f:pathq() }
	headers["x-forwarded-for"] = { txn.f:src() }

	local status = 502
	-- In milliseconds. Usher always answers within backends.*.answer_deadline: 1s unless set, 10s with the preset auth-proxy. Set this above.
	local ok, answer = pcall(function()
		return core.httpclient():get({ url = url, headers = headers, timeout = 5000 })
	end)
	if ok and answer and answer.status and answer.status > 0 then
		status = answer.status
		txn:set_var("txn.usher_location", first(answer.headers, "location"))
		txn:set_var("txn.usher_challenge", first(answer.headers, "www-authenticate"))
		txn:set_var("txn.usher_retry", first(answer.headers, "retry-after"))
		txn:set_var("txn.usher_cookie", first(answer.headers, "set-cookie"))
		txn:set_var("txn.usher_name", first(answer.headers, "x-session-name"))
	end
	txn:set_var("txn.usher_status", status)
end, 1)
