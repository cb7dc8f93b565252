// Figures measures what a reader of the tree has to carry: exported names and files of each package, the longest and the
// most branched function.
//
//	go run ./deploy/figures              this tree, and the bounds that it keeps
//	go run ./deploy/figures OLD NEW      two trees, one below the other
//
// Test files and generated files do not count, nor do packages that only tests import: backends/backendtest, cluster/redistest
// and this one. The test beside it holds this tree to the bounds.
package main

import (
	"fmt"
	"os"
)

func main() {
	trees := os.Args[1:]
	if len(trees) == 0 {
		trees = []string{"."}
	}
	for _, tree := range trees {
		f, err := measure(tree)
		if err != nil {
			fmt.Fprintf(os.Stderr, "figures: %s: %v\n", tree, err)
			os.Exit(1)
		}
		fmt.Printf("%s\n%s", tree, f)
	}
}
