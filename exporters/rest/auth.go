package rest

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/exporters/rest/jinja"
)

// An authenticator adds credentials to requests. It is safe for concurrent use.
type authenticator interface {
	// options returns what to add. It may log in.
	options(ctx context.Context, v *view, s scope) (options, error)
	// refresh renews what can be renewed; it fails if nothing can.
	refresh(ctx context.Context, v *view, s scope) error
}

// A signer is an authenticator whose credential depends on the request.
type signer interface {
	// sign puts the credential onto a request that is otherwise done. It may wait.
	sign(ctx context.Context, v *view, cl *call) error
}

// fixed is an authenticator that has nothing to renew.
type fixed struct{}

func (fixed) refresh(context.Context, *view, scope) error {
	return errors.New("the manifest asks for a token refresh, and this authenticator has none")
}

type noAuth struct{ fixed }

func (noAuth) options(context.Context, *view, scope) (options, error) { return newOptions(), nil }

func (n node) authenticator() authenticator {
	if !n.check() {
		return noAuth{}
	}
	switch n.typ() {
	case "NoAuth":
		return noAuth{}
	case "ApiKeyAuthenticator":
		a := &apiKey{token: n.expr("api_token"), header: n.expr("header")}
		if o, ok := n.child("inject_into"); ok {
			a.option = o.requestOption()
		}
		if (a.option == nil) == (a.header == nil) {
			n.problem("inject_into", "either inject_into or header is required")
		}
		return a
	case "BearerAuthenticator":
		return &bearer{token: n.expr("api_token")}
	case "BasicHttpAuthenticator":
		return &basic{user: n.expr("username"), password: n.expr("password")}
	case "SelectiveAuthenticator":
		return n.selective()
	case "OAuthAuthenticator":
		return n.oauth()
	case "JwtAuthenticator":
		return n.jwt()
	case "SessionTokenAuthenticator":
		return n.session()
	case "LegacySessionTokenAuthenticator":
		return n.legacySession()
	case "RateLimitedMultipleTokenAuthenticator":
		return n.tokens()
	}
	n.problem("", "is not an authenticator")
	return noAuth{}
}

type apiKey struct {
	fixed
	token, header *expr
	option        *requestOption
}

func (a *apiKey) options(ctx context.Context, v *view, s scope) (options, error) {
	o := newOptions()
	token, err := s.text(a.token)
	if err != nil {
		return o, fmt.Errorf("api_token: %w", err)
	}
	v.secrets.add(token)
	if a.option != nil {
		return o, a.option.inject(s, o, token)
	}
	name, err := s.text(a.header)
	o.headers.Set(name, token)
	return o, err
}

type bearer struct {
	fixed
	token *expr
}

func (a *bearer) options(ctx context.Context, v *view, s scope) (options, error) {
	o := newOptions()
	token, err := s.text(a.token)
	if err != nil {
		return o, fmt.Errorf("api_token: %w", err)
	}
	v.secrets.add(token)
	o.headers.Set("Authorization", "Bearer "+token)
	return o, nil
}

type basic struct {
	fixed
	user, password *expr
}

func (a *basic) options(ctx context.Context, v *view, s scope) (options, error) {
	o := newOptions()
	user, err := s.text(a.user)
	if err != nil {
		return o, fmt.Errorf("username: %w", err)
	}
	password, err := s.text(a.password)
	if err != nil {
		return o, fmt.Errorf("password: %w", err)
	}
	token := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
	v.secrets.add(password)
	v.secrets.add(token)
	o.headers.Set("Authorization", "Basic "+token)
	return o, nil
}

// selective picks an authenticator by a path in the configuration.
type selective struct {
	path    []string
	choices map[string]authenticator
}

func (n node) selective() authenticator {
	a := &selective{path: n.texts("authenticator_selection_path"), choices: map[string]authenticator{}}
	d, _ := n.value("authenticators").(*jinja.Dict)
	if d == nil {
		n.problem("authenticators", "is not a map")
		return a
	}
	for i := range d.Len() {
		k, v := d.At(i)
		if c, ok := v.(*jinja.Dict); ok {
			a.choices[jinja.Str(k)] = n.b.node(c, n.path+".authenticators."+jinja.Str(k)).authenticator()
		}
	}
	return a
}

func (a *selective) pick(v *view) (authenticator, error) {
	val, ok := walk(v.config, a.path)
	if c, has := a.choices[jinja.Str(val)]; ok && has {
		return c, nil
	}
	return nil, fmt.Errorf("config at %s chooses no authenticator of the manifest", strings.Join(a.path, "."))
}

func (a *selective) options(ctx context.Context, v *view, s scope) (options, error) {
	c, err := a.pick(v)
	if err != nil {
		return options{}, err
	}
	return c.options(ctx, v, s)
}

func (a *selective) sign(ctx context.Context, v *view, cl *call) error {
	c, err := a.pick(v)
	if err != nil {
		return err
	}
	if s, ok := c.(signer); ok {
		return s.sign(ctx, v, cl)
	}
	return nil
}

func (a *selective) refresh(ctx context.Context, v *view, s scope) error {
	c, err := a.pick(v)
	if err != nil {
		return err
	}
	return c.refresh(ctx, v, s)
}

// session logs in with a request of its own and uses the token it gets.
type session struct {
	login    *requester
	path     []string
	lifetime jinja.Duration
	lasts    bool
	option   *requestOption // nil means a bearer token
	token    *expr

	mu      sync.Mutex
	current string
	until   time.Time
}

func (n node) session() authenticator {
	a := &session{path: n.texts("session_token_path")}
	if r, ok := n.child("login_requester"); ok {
		a.login = r.requester()
	}
	if c, ok := n.child("decoder"); ok && c.typ() != "JsonDecoder" {
		c.problem("", "a session token is read from JSON only")
	}
	a.lifetime, a.lasts = n.duration("expiration_duration")
	if r, ok := n.child("request_authentication"); ok {
		// This one's type may be its short name, ApiKey or Bearer.
		switch r.typ() {
		case "ApiKey", "SessionTokenRequestApiKeyAuthenticator":
			if o, ok := r.child("inject_into"); ok {
				a.option = o.requestOption()
			}
			a.token = r.expr("api_token", "session_token")
		case "Bearer", "SessionTokenRequestBearerAuthenticator":
		default:
			r.problem("", "is not a way to use a session token")
		}
	}
	return a
}

func (a *session) options(ctx context.Context, v *view, s scope) (options, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	o := newOptions()
	if a.current == "" || !a.lasts || !v.now().Before(a.until) {
		if err := a.logIn(ctx, v, s); err != nil {
			return o, err
		}
	}
	token := a.current
	if a.token != nil {
		var err error
		if token, err = s.with("session_token", token).text(a.token); err != nil {
			return o, err
		}
	}
	if a.option != nil {
		return o, a.option.inject(s, o, token)
	}
	o.headers.Set("Authorization", "Bearer "+token)
	return o, nil
}

func (a *session) logIn(ctx context.Context, v *view, s scope) error {
	r, res, err := a.login.send(ctx, v, v.scope(), target{options: newOptions()})
	if err == nil && res.action != actSuccess {
		err = fmt.Errorf("the service answered %d", r.status)
	}
	if err != nil {
		return fmt.Errorf("log in: %w", err)
	}
	body, err := jinja.ParseJSON(trimBOM(r.body))
	if err != nil {
		return fmt.Errorf("log in: the answer is not JSON")
	}
	val, ok := walk(body, a.path)
	token := jinja.Str(val)
	if !ok || token == "" {
		return fmt.Errorf("log in: the answer has no %s", strings.Join(a.path, "."))
	}
	v.secrets.add(token)
	a.current, a.until = token, a.lifetime.Add(v.now())
	return nil
}

func (a *session) refresh(ctx context.Context, v *view, s scope) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.logIn(ctx, v, s)
}

// legacySession tries a token of the configuration and logs in with user and password
// if that is not valid.
type legacySession struct {
	fixed
	header, loginURL, validateURL, key string
	given, user, password              *expr
	base                               *expr // of the requester

	mu      sync.Mutex
	current string
}

func (n node) legacySession() authenticator {
	return &legacySession{header: n.d.Text("header"), loginURL: n.d.Text("login_url"), validateURL: n.d.Text("validate_session_url"),
		key: n.d.Text("session_token_response_key"), given: n.expr("session_token"), user: n.expr("username"), password: n.expr("password")}
}

func (a *legacySession) options(ctx context.Context, v *view, s scope) (options, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	o := newOptions()
	if a.current == "" {
		if err := a.logIn(ctx, v, s); err != nil {
			return o, err
		}
	}
	o.headers.Set(a.header, a.current)
	return o, nil
}

func (a *legacySession) logIn(ctx context.Context, v *view, s scope) error {
	base, err := s.text(a.base)
	if err != nil {
		return err
	}
	given, err := s.text(a.given)
	if err != nil {
		return err
	}
	if given != "" {
		v.secrets.add(given)
		u, err := joinURL(base, a.validateURL)
		if err != nil {
			return fmt.Errorf("validate_session_url: %w", err)
		}
		r, err := v.client.do(ctx, call{method: http.MethodGet, url: u, header: http.Header{http.CanonicalHeaderKey(a.header): {given}}, pinned: []string{origin(u)}})
		if err == nil && r.status < 400 {
			a.current = given
			return nil
		}
	}
	user, err := s.text(a.user)
	if err != nil {
		return err
	}
	password, err := s.text(a.password)
	if err != nil {
		return err
	}
	v.secrets.add(password)
	u, err := joinURL(base, a.loginURL)
	if err != nil {
		return fmt.Errorf("login_url: %w", err)
	}
	body, _ := jinja.AppendJSON(nil, jinja.NewDict("username", user, "password", password))
	r, err := v.client.do(ctx, call{method: http.MethodPost, url: u, header: http.Header{"Content-Type": {"application/json"}}, body: body, pinned: []string{origin(u)}})
	if err != nil {
		return fmt.Errorf("log in: %w", err)
	}
	doc, _ := jinja.ParseJSON(trimBOM(r.body))
	val, ok := walk(doc, []string{a.key})
	if r.status >= 400 || !ok || jinja.Str(val) == "" {
		return fmt.Errorf("log in: %s answered %d without %s: %w", publicURL(u), r.status, a.key, exporters.ErrCredentials)
	}
	a.current = jinja.Str(val)
	v.secrets.add(a.current)
	return nil
}

// walk follows plain keys and list positions.
func walk(v jinja.Value, path []string) (jinja.Value, bool) {
	for _, k := range path {
		found := findKey(v, k)
		if len(found) != 1 {
			return nil, false
		}
		v = found[0].val
	}
	return v, true
}
