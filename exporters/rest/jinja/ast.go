package jinja

// An expr is a node of an expression; a stmt one of a template's body.
type expr interface {
	eval(f *frame) (Value, error)
}

type stmt interface {
	exec(f *frame) error
}

type (
	constant struct{ val Value }
	name     struct{ name string }
	getAttr  struct {
		obj  expr
		name string
	}
	getItem struct{ obj, key expr }
	slice   struct{ lo, hi, step expr } // nil if absent
	call    struct {
		fn   expr
		args arguments
	}
	filterExpr struct {
		in   expr // nil in {% filter %}
		name string
		fn   filter
		args arguments
	}
	testExpr struct {
		in   expr
		name string
		fn   test
		args arguments
		not  bool
	}
	unary struct {
		op string
		x  expr
	}
	binary struct {
		op   string
		a, b expr
	}
	boolOp struct {
		or   bool
		a, b expr
	}
	comparison struct {
		first expr
		ops   []string
		rest  []expr
	}
	concat    struct{ parts []expr }
	condition struct{ test, then, otherwise expr } // otherwise may be nil
	listExpr  struct{ items []expr }
	tupleExpr struct{ items []expr }
	dictExpr  struct{ keys, vals []expr }

	// arguments of a call; kw keeps their order.
	arguments struct {
		pos        []expr
		kwNames    []string
		kw         []expr
		star, dict expr
	}
)

type (
	text   struct{ s string }
	output struct{ x expr }
	ifStmt struct {
		tests  []expr
		bodies [][]stmt // one more than tests if there is an else
	}
	forStmt struct {
		targets []string
		in      expr
		where   expr // nil if absent
		body    []stmt
		empty   []stmt
	}
	setStmt struct {
		targets []string
		attr    string // {% set ns.attr = ... %}
		x       expr
	}
	setBlock struct {
		target  string
		body    []stmt
		filters []*filterExpr
	}
	withStmt struct {
		names []string
		vals  []expr
		body  []stmt
	}
	filterBlock struct {
		filters []*filterExpr
		body    []stmt
	}
)
