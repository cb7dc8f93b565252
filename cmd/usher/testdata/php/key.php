<?php
// Answers only those who know the key of its address.
if (($_GET['key'] ?? '') !== 'k') {
    http_response_code(403);
}
