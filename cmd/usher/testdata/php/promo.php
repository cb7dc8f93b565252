<?php
// Sends viewers without a subscription to a promo channel on the same box.
if (!str_starts_with($_GET['token'] ?? '', 'good')) {
    header('Location: http://' . $_SERVER['HTTP_HOST'] . '/promo/index.m3u8', true, 302);
}
