<?php
// Allows with more headers than some clients take.
header('X-Filler: ' . str_repeat('x', 4000));
