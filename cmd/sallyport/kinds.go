package main

import (
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/exporters/dir"
	"github.com/dwp/sallyport/exporters/rest"
	"github.com/dwp/sallyport/exporters/s3"
	"github.com/dwp/sallyport/exporters/singer"
	"github.com/dwp/sallyport/exporters/sqldb"
)

// kinds lists what can be exported from and restored to.
func kinds() []exporters.Kind {
	return []exporters.Kind{s3.Kind, dir.Kind, sqldb.Postgres, sqldb.MySQL, sqldb.SQLite, rest.Kind, singer.Kind}
}
