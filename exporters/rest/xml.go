package rest

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/text/encoding/htmlindex"

	"github.com/dwp/sallyport/exporters/rest/jinja"
)

// parseXML turns a document into maps as xmltodict does: attributes are @name, text
// beside them #text, repeated elements a list, empty elements null. No entity but
// XML's own five is known, so none can expand.
func parseXML(b []byte) (jinja.Value, error) {
	dec := xml.NewDecoder(bytes.NewReader(b))
	dec.CharsetReader = func(label string, r io.Reader) (io.Reader, error) {
		enc, err := htmlindex.Get(label)
		if err != nil {
			return nil, err
		}
		return enc.NewDecoder().Reader(r), nil
	}
	root := new(jinja.Dict)
	for {
		t, err := dec.RawToken()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		switch t := t.(type) {
		case xml.StartElement:
			v, err := element(dec, t, 0)
			if err != nil {
				return nil, err
			}
			if root.Len() > 0 {
				return nil, errors.New("a second root element")
			}
			root.Set(xmlName(t.Name), v)
		case xml.CharData:
			if len(bytes.TrimSpace(t)) > 0 {
				return nil, errors.New("text outside of the root element")
			}
		case xml.Directive:
			if bytes.Contains(bytes.ToUpper(t), []byte("ENTITY")) {
				return nil, errors.New("the document declares entities")
			}
		}
	}
	if root.Len() == 0 {
		return nil, errors.New("no root element")
	}
	return root, nil
}

func xmlName(n xml.Name) string {
	if n.Space != "" {
		return n.Space + ":" + n.Local
	}
	return n.Local
}

func element(dec *xml.Decoder, start xml.StartElement, depth int) (jinja.Value, error) {
	if depth > 200 {
		return nil, errors.New("elements are nested too deeply")
	}
	d := new(jinja.Dict)
	for _, a := range start.Attr {
		d.Set("@"+xmlName(a.Name), a.Value)
	}
	var text strings.Builder
	for {
		t, err := dec.RawToken()
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, err
		}
		switch t := t.(type) {
		case xml.StartElement:
			v, err := element(dec, t, depth+1)
			if err != nil {
				return nil, err
			}
			name := xmlName(t.Name)
			switch old, has := d.Get(name); old := old.(type) {
			case *jinja.List:
				old.Items = append(old.Items, v)
			default:
				if has {
					d.Set(name, jinja.NewList(old, v))
				} else {
					d.Set(name, v)
				}
			}
		case xml.CharData:
			text.Write(t)
		case xml.EndElement:
			if xmlName(t.Name) != xmlName(start.Name) {
				return nil, fmt.Errorf("element %s ends as %s", xmlName(start.Name), xmlName(t.Name))
			}
			s := strings.TrimSpace(text.String())
			switch {
			case d.Len() == 0 && s == "":
				return nil, nil
			case d.Len() == 0:
				return s, nil
			case s != "":
				d.Set("#text", s)
			}
			return d, nil
		}
	}
}
