<?php
// Refuses at once, and writes a body that ends when nobody reads it any more.
http_response_code(403);
while (ob_get_level() > 0) {
    ob_end_flush();
}
for (;;) {
    echo ' ';
    flush();
    usleep(50000);
}
