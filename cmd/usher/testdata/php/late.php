<?php
// Answers after as many milliseconds as the address says.
usleep(1000 * (int) ($_GET['token'] ?? 0));
