<?php
// Fails in every check until the file "repaired" is there. PHP then answers 200, with its error in the body.
ini_set('display_errors', '1');
if (file_exists(__DIR__ . '/repaired')) {
    http_response_code(403);
    exit;
}
header('X-AuthDuration: 36000');
$user = new Subscriber($_GET['token'] ?? '');
