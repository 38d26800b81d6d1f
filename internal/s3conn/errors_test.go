package s3conn

import (
	"net/http"
	"testing"
	"time"
)

func TestErrorThatQuotesAnAwkwardKeyKeepsItsCode(t *testing.T) {
	t.Parallel()
	body := "<Error><Code>InvalidObjectState</Code><Message>archived</Message><Key>a\x1b[31m\x07\uffff</Key></Error>"
	e := newError("get object", http.StatusForbidden, nil, []byte(body), time.Now())
	if e.Code != "InvalidObjectState" || e.Message != "archived" {
		t.Errorf("code %q, message %q", e.Code, e.Message)
	}
}
