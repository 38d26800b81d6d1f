package main

import (
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/exporters/s3"
)

// kinds lists what can be exported from and restored to.
func kinds() []exporters.Kind { return []exporters.Kind{s3.Kind} }
