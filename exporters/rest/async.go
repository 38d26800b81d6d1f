package rest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/exporters/rest/jinja"
)

// async is an AsyncRetriever: it orders a report, waits for it and downloads its
// parts. Every part has to arrive.
type async struct {
	create, poll, target, download, abort, delete *requester
	running, completed, failed, timedOut, skipped []string
	status, targets                               *selector
	records                                       *selector // of a download
	pages                                         *paginator
	dec, downloadDec                              *decoder
	timeout                                       *expr // minutes
}

func (n node) async(st *stream) retriever {
	r := &async{pages: &paginator{}}
	for name, into := range map[string]**requester{"creation_requester": &r.create, "polling_requester": &r.poll, "download_target_requester": &r.target,
		"download_requester": &r.download, "abort_requester": &r.abort, "delete_requester": &r.delete} {
		if c, ok := n.child(name); ok {
			*into = c.requester()
		}
	}
	if m, ok := n.child("status_mapping"); ok {
		if !m.has("type") {
			m.d.Set("type", "AsyncJobStatusMap")
		}
		m.check()
		r.running, r.completed, r.failed, r.timedOut, r.skipped = m.texts("running"), m.texts("completed"), m.texts("failed"), m.texts("timeout"), m.texts("skipped")
	}
	extractor := func(field string) *selector {
		c, ok := n.child(field)
		if !ok || c.typ() == "ResponseToFileExtractor" || !c.check() {
			return nil
		}
		return &selector{path: c.exprs("field_path")}
	}
	r.status, r.targets, r.records = extractor("status_extractor"), extractor("download_target_extractor"), extractor("download_extractor")
	c, _ := n.child("download_paginator")
	r.pages = c.paginator()
	c, _ = n.child("decoder")
	r.dec = c.decoder()
	c, _ = n.child("download_decoder")
	r.downloadDec = c.decoder()
	r.timeout = n.expr("polling_job_timeout")
	if r.create == nil || r.poll == nil || r.download == nil || r.status == nil {
		n.problem("creation_requester", "polling_requester, download_requester and status_extractor are required")
	}
	return r
}

func (r *async) requesters() []*requester { return nil } // reports are not cached

// maxJobs is how often a report that failed is ordered again.
const maxJobs = 3

func (r *async) slice(ctx context.Context, v *view, st *stream, p part, emit func(item) error) error {
	s := p.scope(v.scope()).with("next_page_token", nil)
	o := newOptions()
	for _, i := range p.inject {
		if err := i.option.inject(s, o, i.value); err != nil {
			return err
		}
	}
	for try := 1; ; try++ {
		created, err := r.ask(ctx, v, s, r.create, target{options: o})
		if err != nil {
			return fmt.Errorf("order the report: %w", err)
		}
		s := s.with("creation_response", created)
		state, polled, err := r.wait(ctx, v, s)
		if err != nil {
			return err
		}
		switch state {
		case "completed":
			s = s.with("polling_response", polled)
			if err := r.parts(ctx, v, st, p, s, polled, emit); err != nil {
				return err
			}
			if r.delete != nil {
				if _, err := r.ask(ctx, v, s, r.delete, target{options: newOptions()}); err != nil {
					v.facts.note(fmt.Sprintf("stream %s: the report could not be deleted at the source afterwards", st.name))
				}
			}
			return nil
		case "skipped":
			v.facts.ignore(st.name, "report skipped by the source")
			return emit(item{part: p, gap: &dataset.Gap{Key: p.label(), Code: dataset.IgnoredResponse, Detail: "the source skipped the report"}})
		}
		if try == maxJobs {
			return fmt.Errorf("the report %s %d times", state, try)
		}
	}
}

// ask makes a request and returns the first element of its answer.
func (r *async) ask(ctx context.Context, v *view, s scope, q *requester, t target) (jinja.Value, error) {
	a, res, err := q.send(ctx, v, s, t)
	if err != nil {
		return nil, err
	}
	if res.action != actSuccess || a.status >= 400 {
		return nil, fmt.Errorf("the manifest ignores answer %d, and the report cannot go on without it", a.status)
	}
	return a.first(), nil
}

// wait polls until the report is done.
func (r *async) wait(ctx context.Context, v *view, s scope) (string, jinja.Value, error) {
	minutes, err := s.number(r.timeout, 60)
	if err != nil {
		return "", nil, fmt.Errorf("polling_job_timeout: %w", err)
	}
	deadline := v.now().Add(time.Duration(minutes * float64(time.Minute)))
	for pause := time.Second; ; pause = min(2*pause, 20*time.Second) {
		polled, err := r.ask(ctx, v, s, r.poll, target{options: newOptions()})
		if err != nil {
			return "", nil, fmt.Errorf("poll the report: %w", err)
		}
		found, err := r.status.extract(s, polled)
		if err != nil || len(found) != 1 {
			return "", nil, fmt.Errorf("poll the report: the answer has no status")
		}
		status := jinja.Str(found[0])
		switch {
		case slices.Contains(r.completed, status):
			return "completed", polled, nil
		case slices.Contains(r.failed, status):
			return "failed", polled, nil
		case slices.Contains(r.timedOut, status):
			return "timed out", polled, nil
		case slices.Contains(r.skipped, status):
			return "skipped", polled, nil
		case !slices.Contains(r.running, status):
			return "", nil, fmt.Errorf("poll the report: the manifest does not know the status %s", v.secrets.quoted([]byte(status)))
		}
		if !v.now().Before(deadline) {
			if r.abort != nil {
				r.ask(ctx, v, s.with("polling_response", polled), r.abort, target{options: newOptions()})
			}
			return "", nil, fmt.Errorf("the report was not ready after %g minutes: %w", minutes, exporters.ErrTemporary)
		}
		if err := v.sleep(ctx, pause); err != nil {
			return "", nil, err
		}
	}
}

// parts downloads every part of a finished report.
func (r *async) parts(ctx context.Context, v *view, st *stream, p part, s scope, polled jinja.Value, emit func(item) error) error {
	targets := []jinja.Value{""}
	if r.targets != nil {
		from := polled
		if r.target != nil {
			var err error
			if from, err = r.ask(ctx, v, s, r.target, target{options: newOptions()}); err != nil {
				return fmt.Errorf("ask for the parts of the report: %w", err)
			}
		}
		var err error
		if targets, err = r.targets.extract(s, from); err != nil {
			return fmt.Errorf("the parts of the report: %w", err)
		}
		if len(targets) == 0 {
			v.facts.note(fmt.Sprintf("stream %s: a finished report had no parts", st.name))
		}
	}
	seen := map[string]bool{}
	for _, t := range targets {
		text := jinja.Str(t)
		if seen[text] {
			return errors.New("the report names a part twice")
		}
		seen[text] = true
		if err := r.part(ctx, v, st, p, s.with("download_target", text), emit); err != nil {
			return fmt.Errorf("download a part of the report: %w", err)
		}
	}
	return nil
}

// part downloads one part: streamed, or page by page if there is a paginator.
func (r *async) part(ctx context.Context, v *view, st *stream, p part, s scope, emit func(item) error) error {
	x := st.selector
	if r.records != nil {
		c := *x
		c.path, c.custom = r.records.path, nil
		x = &c
	}
	if r.pages.kind != "" {
		paged := *st
		paged.selector = x
		inner := &simple{req: r.download, pages: r.pages, dec: r.downloadDec}
		bound := p
		bound.extra = jinja.NewDict("download_target", s.vars["download_target"], "polling_response", s.vars["polling_response"], "creation_response", s.vars["creation_response"])
		bound.inject = nil
		return inner.readPages(ctx, v, &paged, bound, nil, emit)
	}
	body, err := r.open(ctx, v, s)
	if err != nil {
		return err
	}
	defer body.Close()
	for e, err := range r.downloadDec.records(body, v.client.limits.download) {
		if err != nil {
			return fmt.Errorf("the part is not what its decoder reads: %w", err)
		}
		recs := []jinja.Value{e}
		if r.records != nil {
			if recs, err = x.extract(s, e); err != nil {
				return err
			}
		}
		for _, rec := range recs {
			if _, _, err := st.process(v, s, p, rec, emit); err != nil {
				return err
			}
		}
	}
	return nil
}

// readCloser joins a bounded reader with the body that is to be closed.
type readCloser struct {
	io.Reader
	io.Closer
	cancel context.CancelFunc
}

func (r readCloser) Close() error {
	defer r.cancel()
	return r.Closer.Close()
}

// open makes the request of a streamed download. Errors before its body are retried.
func (r *async) open(ctx context.Context, v *view, s scope) (io.ReadCloser, error) {
	for try := 0; ; try++ {
		cl, err := r.download.build(ctx, v, s, target{options: newOptions()}, r.download.auth)
		if err != nil {
			return nil, err
		}
		open, cancel := context.WithCancel(ctx)
		resp, _, err := v.client.open(open, cl)
		if err == nil && resp.StatusCode == 200 {
			body, err := v.client.decoded(resp, v.client.limits.download)
			if err != nil {
				resp.Body.Close()
				cancel()
				return nil, err
			}
			return readCloser{&idleReader{r: body, cancel: cancel, limit: v.client.limits.timeout}, resp.Body, cancel}, nil
		}
		var failed *answer
		if err == nil {
			b, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
			resp.Body.Close()
			failed = &answer{status: resp.StatusCode, header: resp.Header, body: b, url: cl.url}
			err = &statusError{resp.StatusCode, publicURL(cl.url), "", v.secrets.quoted(b)}
		}
		cancel()
		res, derr := r.download.handler.decide(s, failed, err)
		if derr != nil {
			return nil, derr
		}
		if (res.action != actRetry && res.action != actRateLimited) || try >= 5 {
			return nil, err
		}
		if err := v.sleep(ctx, time.Second<<try); err != nil {
			return nil, err
		}
	}
}

// idleReader cancels a transfer of which nothing came for a while.
type idleReader struct {
	r      io.Reader
	cancel context.CancelFunc
	limit  time.Duration
}

func (r *idleReader) Read(p []byte) (int, error) {
	t := time.AfterFunc(r.limit, r.cancel)
	defer t.Stop()
	return r.r.Read(p)
}
