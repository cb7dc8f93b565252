<?php
// Allows each subscriber once: the table loses the row that was read, as one that is being emptied.
$table = __DIR__ . '/subscribers.txt';
$rows = file($table, FILE_IGNORE_NEW_LINES);
$row = array_search($_GET['token'] ?? '', $rows, true);
if ($row === false) {
    http_response_code(403);
} else {
    unset($rows[$row]);
    file_put_contents($table, implode("\n", $rows));
}
header('X-AuthDuration: 2');
