package crypto

import (
	"fmt"
	"iter"
	"os"
	"strconv"
	"strings"

	"filippo.io/age/plugin"
)

// lines yields the lines of a key file that say something, with their numbers from 1
// and without the characters of space at their ends.
func lines(text []byte, space string) iter.Seq2[int, string] {
	return func(yield func(int, string) bool) {
		n := 0
		for line := range strings.Lines(string(text)) {
			n++
			line = strings.Trim(line, space)
			if line == "" || line[0] == '#' {
				continue
			}
			if !yield(n, line) {
				return
			}
		}
	}
}

// terminal lets a plug-in talk to the person at the controlling terminal: "touch your
// key", a PIN. Without a terminal its questions fail, and with them the operation.
func terminal() *plugin.ClientUI {
	say := func(format string, v ...any) {
		// The message is the plug-in's; quoting keeps escape sequences off the terminal.
		message := strconv.Quote(fmt.Sprintf(format, v...))
		fmt.Fprintf(os.Stderr, "sallyport: %s\n", message[1:len(message)-1])
	}
	return plugin.NewTerminalUI(say, say)
}
