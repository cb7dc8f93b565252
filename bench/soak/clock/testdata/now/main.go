// Command now prints, for each line that it reads, the time, and how long it has run by the monotonic clock.
package main

import (
	"bufio"
	"fmt"
	"os"
	"time"
)

func main() {
	begun := time.Now()
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		fmt.Println(time.Now().UnixNano(), time.Since(begun).Nanoseconds())
	}
}
