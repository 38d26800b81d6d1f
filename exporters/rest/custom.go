package rest

import "github.com/dwp/sallyport/exporters/rest/jinja"

// extractors replace Python classes of CustomRecordExtractor by their class_name.
// Other Custom components have no replacement and are refused.
var extractors = map[string]func(jinja.Value) ([]jinja.Value, error){
	// A map of records by their key: each value is a record.
	"sallyport.MapValuesExtractor": mapValues,
}

func mapValues(body jinja.Value) ([]jinja.Value, error) {
	d, ok := body.(*jinja.Dict)
	if !ok {
		return nil, &absentError{"map of records"}
	}
	var out []jinja.Value
	for i := range d.Len() {
		_, v := d.At(i)
		out = append(out, v)
	}
	return out, nil
}
