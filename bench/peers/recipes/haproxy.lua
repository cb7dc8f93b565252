-- Asks the middleware about a request. txn.status is its status, or 503 if there is no answer.
core.register_action("auth", { "http-req" }, function(txn)
	local token = txn.f:url_param("token") or ""
	local channel = (txn.f:path() or ""):match("^/(.*)/[^/]*$") or ""
	local url = "{{.Auth}}?token=" .. token .. "&channel=" .. channel .. "&ip=" .. txn.f:src()
	local status = 503
	local ok, answer = pcall(function() return core.httpclient():get({ url = url }) end)
	if ok and answer and answer.status and answer.status > 0 then
		status = answer.status
	end
	txn:set_var("txn.status", status)
end, 0)
