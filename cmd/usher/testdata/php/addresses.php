<?php
// Allows a list of addresses, and says nothing besides the status.
if (!in_array($_SERVER['HTTP_X_REAL_IP'] ?? '', ['203.0.113.7', '192.0.2.7'], true)) {
    http_response_code(403);
}
