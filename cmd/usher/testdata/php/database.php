<?php
// Allows who is in the file of subscribers, and denies everybody once it is empty.
$subscribers = file(__DIR__ . '/subscribers.txt', FILE_IGNORE_NEW_LINES);
if (!in_array($_GET['token'] ?? '', $subscribers, true)) {
    http_response_code(403);
}
header('X-AuthDuration: 12');
