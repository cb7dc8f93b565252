<?php
// Allows a viewer at 192.0.2.7 on a001, by the parameters of the contract alone.
$isAllowed = ($_GET['name'] ?? '') === 'a001' && ($_GET['ip'] ?? '') === '192.0.2.7';
http_response_code($isAllowed ? 200 : 403);
echo '{"error": 0}';
