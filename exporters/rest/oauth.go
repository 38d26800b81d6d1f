package rest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/exporters/rest/jinja"
	"github.com/dwp/sallyport/internal/durable"
)

// oauth gets access tokens from a token endpoint. A rotated refresh token is stored
// durably before anything is done with the access token that came with it: a crash
// in between would lock the next run out.
type oauth struct {
	endpoint, access               *expr
	clientID, secret, refreshToken *expr
	grantType, grantName           *expr
	idName, secretName, tokenName  *expr
	accessName, expiresName        *expr
	scopes                         []*expr
	body, headers                  *template
	asQuery                        bool
	expiryFormat                   string
	expiryDate                     *expr
	errorCodes                     []int
	errorKey                       string
	errorValues                    []string
	rotates                        bool
	rotatedName                    string
	assertion                      *jwtAuth
	path                           string // in the manifest; names the state file

	mu      sync.Mutex
	current string
	until   time.Time
	rotated string
	loaded  bool
}

func (n node) oauth() authenticator {
	a := &oauth{
		endpoint: n.expr("token_refresh_endpoint"), access: n.expr("access_token_value"),
		clientID: n.expr("client_id"), secret: n.expr("client_secret"), refreshToken: n.expr("refresh_token"),
		grantType: n.expr("grant_type"), grantName: n.expr("grant_type_name"), idName: n.expr("client_id_name"),
		secretName: n.expr("client_secret_name"), tokenName: n.expr("refresh_token_name"),
		accessName: n.expr("access_token_name"), expiresName: n.expr("expires_in_name"), scopes: n.exprs("scopes"),
		asQuery: n.flag("send_refresh_request_as_query_params", false), expiryFormat: n.d.Text("token_expiry_date_format"),
		expiryDate: n.expr("token_expiry_date"), errorCodes: n.integers("refresh_token_error_status_codes"),
		errorKey: n.d.Text("refresh_token_error_key"), errorValues: n.texts("refresh_token_error_values"), path: n.path,
	}
	if v := n.value("refresh_request_body"); v != nil {
		a.body = n.template("refresh_request_body", v)
	}
	if v := n.value("refresh_request_headers"); v != nil {
		a.headers = n.template("refresh_request_headers", v)
	}
	if u, ok := n.child("refresh_token_updater"); ok {
		a.rotates, a.rotatedName = true, u.d.Text("refresh_token_name")
		if a.rotatedName == "" {
			a.rotatedName = "refresh_token"
		}
		if a.errorCodes == nil {
			a.errorCodes, a.errorKey, a.errorValues = u.integers("refresh_token_error_status_codes"), u.d.Text("refresh_token_error_key"), u.texts("refresh_token_error_values")
		}
		n.b.used["rotating refresh token"]++
	}
	if n.flag("use_profile_assertion", false) {
		if c, ok := n.child("profile_assertion"); ok && c.check() {
			a.assertion, _ = c.jwt().(*jwtAuth)
		} else {
			n.problem("profile_assertion", "is required")
		}
	}
	if a.endpoint == nil && a.access == nil {
		n.problem("token_refresh_endpoint", "or access_token_value is required")
	}
	return a
}

func (a *oauth) options(ctx context.Context, v *view, s scope) (options, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	o := newOptions()
	if a.endpoint == nil {
		token, err := s.text(a.access)
		v.secrets.add(token)
		o.headers.Set("Authorization", "Bearer "+token)
		return o, err
	}
	if a.current == "" || !v.now().Before(a.until) {
		if err := a.renew(ctx, v, s); err != nil {
			return o, err
		}
	}
	o.headers.Set("Authorization", "Bearer "+a.current)
	return o, nil
}

func (a *oauth) refresh(ctx context.Context, v *view, s scope) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.endpoint == nil {
		return fixed{}.refresh(ctx, v, s)
	}
	return a.renew(ctx, v, s)
}

// textOr evaluates x, def if it is absent.
func (s scope) textOr(x *expr, def string) (string, error) {
	if x == nil {
		return def, nil
	}
	return s.text(x)
}

// renew gets a new access token.
func (a *oauth) renew(ctx context.Context, v *view, s scope) error {
	if err := a.load(v, s); err != nil {
		return err
	}
	endpoint, err := s.text(a.endpoint)
	if err != nil {
		return fmt.Errorf("token_refresh_endpoint: %w", err)
	}
	u, err := parseURL(endpoint)
	if err != nil {
		return fmt.Errorf("token_refresh_endpoint: %w", err)
	}
	headers := new(jinja.Dict)
	if a.headers != nil {
		h, err := s.tree(a.headers, nil, true)
		if err != nil {
			return fmt.Errorf("refresh_request_headers: %w", err)
		}
		headers, _ = h.(*jinja.Dict)
	}
	form, err := a.form(s, v, !headers.Has("Authorization"))
	if err != nil {
		return err
	}
	cl := call{method: http.MethodPost, url: u, header: http.Header{}, pinned: []string{origin(u)}}
	o := options{headers: headers, data: form, json: new(jinja.Dict), params: new(jinja.Dict)}
	switch ct := headers.Text("Content-Type"); {
	case a.asQuery:
		o.data = new(jinja.Dict)
		if err := addQuery(u, pairs(form)); err != nil {
			return err
		}
	case strings.Contains(ct, "json"):
		o.data, o.json = o.json, form
	}
	if err := cl.fill(o, ""); err != nil {
		return fmt.Errorf("refresh request: %w", err)
	}
	cl.header.Set("Accept", "application/json")
	sent := v.now()
	r, res, err := v.send(ctx, s, &errorHandler{parts: []defaultHandler{{}}}, func(context.Context) (call, error) { return cl, nil }, nil)
	if err != nil || res.action != actSuccess {
		if r != nil && (a.mustLogInAgain(r) || r.status == 400 || r.status == 401) {
			return fmt.Errorf("the refresh token is not accepted, authorise the connection again: %w: %w", exporters.ErrCredentials, err)
		}
		return fmt.Errorf("refresh the token: %w", err)
	}
	return a.accept(v, s, r, sent)
}

func (a *oauth) mustLogInAgain(r *answer) bool {
	if !slices.Contains(a.errorCodes, r.status) {
		return false
	}
	doc, err := jinja.ParseJSON(trimBOM(r.body))
	val, ok := walk(doc, []string{a.errorKey})
	return err == nil && ok && slices.Contains(a.errorValues, jinja.Str(val))
}

// form is the body of the refresh request, in the framework's order.
func (a *oauth) form(s scope, v *view, withClient bool) (*jinja.Dict, error) {
	d := new(jinja.Dict)
	var failed error
	set := func(name *expr, defName string, val *expr, defVal string) {
		k, err := s.textOr(name, defName)
		if err != nil && failed == nil {
			failed = err
		}
		t, err := s.textOr(val, defVal)
		if err != nil && failed == nil {
			failed = err
		}
		if t != "" {
			d.Set(k, t)
		}
	}
	set(a.grantName, "grant_type", a.grantType, "refresh_token")
	if a.assertion != nil {
		token, err := a.assertion.token(v, s)
		if err != nil {
			return nil, err
		}
		d.Set("assertion", token)
	} else if withClient {
		set(a.idName, "client_id", a.clientID, "")
		set(a.secretName, "client_secret", a.secret, "")
		secret, _ := s.text(a.secret)
		v.secrets.add(secret)
	}
	if a.rotated != "" {
		set(a.tokenName, "refresh_token", nil, a.rotated)
	} else if a.refreshToken != nil {
		set(a.tokenName, "refresh_token", a.refreshToken, "")
		token, _ := s.text(a.refreshToken)
		v.secrets.add(token)
	}
	if a.scopes != nil {
		l := jinja.NewList()
		for _, x := range a.scopes {
			t, err := s.text(x)
			if err != nil {
				return nil, fmt.Errorf("scopes: %w", err)
			}
			l.Items = append(l.Items, t)
		}
		d.Set("scopes", l)
	}
	if a.body != nil {
		extra, err := s.tree(a.body, nil, true)
		if err != nil {
			return nil, fmt.Errorf("refresh_request_body: %w", err)
		}
		if extra, ok := extra.(*jinja.Dict); ok {
			for i := range extra.Len() {
				if k, val := extra.At(i); !d.Has(k) {
					d.Set(k, val)
				}
			}
		}
	}
	return d, failed
}

// accept takes the tokens out of an answer.
func (a *oauth) accept(v *view, s scope, r *answer, sent time.Time) error {
	doc, err := jinja.ParseJSON(trimBOM(r.body))
	if err != nil {
		return errors.New("the token endpoint's answer is not JSON")
	}
	accessName, err := s.textOr(a.accessName, "access_token")
	if err != nil {
		return err
	}
	expiresName, err := s.textOr(a.expiresName, "expires_in")
	if err != nil {
		return err
	}
	access := jinja.Str(search(doc, accessName, 5))
	if access == "" || access == "None" {
		return fmt.Errorf("the token endpoint's answer has no %q", accessName)
	}
	v.secrets.add(access)
	until := sent.Add(time.Hour)
	switch expires := search(doc, expiresName, 5); {
	case expires == nil:
	case a.expiryFormat != "":
		t, err := jinja.ParseTime(expires, a.expiryFormat)
		if err != nil {
			return fmt.Errorf("token expiry: %w", err)
		}
		until = t.Time()
	default:
		val, _ := jinja.LiteralEval(jinja.Str(expires))
		f, ok := jinja.Float(val)
		if !ok {
			return fmt.Errorf("token expiry: %s is no number of seconds", jinja.Str(expires))
		}
		until = sent.Add(seconds(f))
	}
	if a.rotates {
		if token, ok := search(doc, a.rotatedName, 5).(string); ok && token != "" {
			v.secrets.add(token)
			a.rotated = token
			if err := a.store(v, s); err != nil {
				return fmt.Errorf("store the rotated refresh token: %w", err)
			}
		}
	}
	a.current, a.until = access, until.Add(-10*time.Second)
	return nil
}

// search finds a name in nested maps and lists.
func search(v jinja.Value, name string, depth int) jinja.Value {
	if depth < 0 {
		return nil
	}
	switch v := v.(type) {
	case *jinja.Dict:
		if x, ok := v.Get(name); ok {
			return x
		}
		for i := range v.Len() {
			_, x := v.At(i)
			if found := search(x, name, depth-1); found != nil {
				return found
			}
		}
	case *jinja.List:
		for _, x := range v.Items {
			if found := search(x, name, depth-1); found != nil {
				return found
			}
		}
	}
	return nil
}

// tokenState is the file that keeps a rotated refresh token. Seed is the hash of the
// configured one: a token that the operator enters anew wins.
type tokenState struct {
	Seed         string `json:"seed"`
	RefreshToken string `json:"refresh_token"`
}

// stateFile names the file: one an authenticator, client and endpoint.
func (a *oauth) stateFile(v *view, s scope) (name, seed string, err error) {
	if v.stateDir == "" {
		return "", "", errors.New("the service rotates its refresh token, and there is no state directory to keep it in")
	}
	endpoint, err := s.text(a.endpoint)
	if err != nil {
		return "", "", err
	}
	id, err := s.text(a.clientID)
	if err != nil {
		return "", "", err
	}
	token, err := s.text(a.refreshToken)
	if err != nil {
		return "", "", err
	}
	h := sha256.Sum256([]byte(endpoint + "\x00" + id))
	t := sha256.Sum256([]byte("seed\x00" + token))
	return filepath.Join(v.stateDir, "oauth-"+hex.EncodeToString(h[:8])+".json"), hex.EncodeToString(t[:]), nil
}

func (a *oauth) load(v *view, s scope) error {
	if !a.rotates || a.loaded {
		return nil
	}
	name, seed, err := a.stateFile(v, s)
	if err != nil {
		return err
	}
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		a.loaded = true
		return nil
	}
	var st tokenState
	if err == nil {
		err = json.Unmarshal(b, &st)
	}
	if err != nil {
		return fmt.Errorf("read the kept refresh token: %w", err)
	}
	if st.Seed == seed {
		a.rotated = st.RefreshToken
		v.secrets.add(st.RefreshToken)
	}
	a.loaded = true
	return nil
}

func (a *oauth) store(v *view, s scope) error {
	name, seed, err := a.stateFile(v, s)
	if err != nil {
		return err
	}
	b, err := json.Marshal(tokenState{seed, a.rotated})
	if err != nil {
		return err
	}
	dir, err := durable.OpenPrivate(filepath.Dir(name))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Replace(filepath.Base(name), b)
}
