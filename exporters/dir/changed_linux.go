package dir

import (
	"io/fs"
	"syscall"
	"time"
)

// changed returns when a file's content or metadata last changed. Unlike the time of
// modification nobody can set it.
func changed(info fs.FileInfo) (time.Time, bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return time.Time{}, false
	}
	return time.Unix(st.Ctim.Unix()), true
}
