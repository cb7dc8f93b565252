<?php
// Redirects every viewer to a login page.
if (!isset($_GET['page'])) {
    header('Location: /login.php?page=1', true, 302);
    exit;
}
echo '<!doctype html><title>Log in</title>';
