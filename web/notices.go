package web

import (
	"errors"
	"net/http"
	"time"

	"github.com/gorilla/mux"

	"gatehouse.dev/gatehouse/sessions"
)

// actNotice answers a notice, as its form's seal names it; the subject is the
// notice's id. What the answer is stands beside the seal: both are asked at once.
const actNotice = "notice"

// mountNotices adds where the questions of the account page go.
func (p *Pages) mountNotices(r *mux.Router) {
	if p.cfg.Notices != nil {
		r.Handle(accountPath+"/notices/{id}", p.page(methods{http.MethodPost: p.visit("account", 0, p.postNotice)}))
	}
}

// notice is one question about a sign-in from elsewhere, as the template part
// "notices" asks it.
type notice struct {
	ID      string
	Text    string // catalogue key
	Device  sessions.Device
	Address string // empty: not known
	At      time.Time
	Ended   bool   // the sign-in is over
	OnlyNo  bool   // it can't be answered with yes here
	Hint    string // catalogue key of why that is so; empty: it can be, or stands above
	Action  string
	Fields  map[string]string
}

// questions are what the template part "notices" asks, newest first.
type questions struct {
	Open []notice
	Over []notice // about sign-ins that are over, which can't be answered with yes here
}

// notices are the questions that the visitor has not answered.
func (p *Pages) notices(r *http.Request, v *visitor) (questions, error) {
	if p.cfg.Notices == nil {
		return questions{}, nil
	}
	open, err := p.cfg.Notices.Open(r.Context(), v.person())
	if err != nil {
		return questions{}, err
	}
	var out questions
	for _, n := range open {
		ask := notice{ID: n.ID, Text: news(n, "notice.device", "notice.network", "notice.both"), Device: sessions.DeviceOf(n.UserAgent),
			Address: n.Address, At: n.At, Ended: n.Ended, OnlyNo: n.OnlyNo, Action: p.path + accountPath + "/notices/" + n.ID,
			Fields: map[string]string{sealField: p.seal(v, actNotice, n.ID)}}
		switch {
		case n.Crowded:
			ask.Hint = "notice.crowded"
		case n.OnlyNo && !n.Ended:
			ask.Hint = "notice.onlyno"
		}
		if n.OnlyNo && n.Ended {
			out.Over = append(out.Over, ask)
		} else {
			out.Open = append(out.Open, ask)
		}
	}
	return out, nil
}

// postNotice takes an answer. Where it was somebody else, that sign-in ends, and
// the page that changes the password follows: somebody knows it.
func (p *Pages) postNotice(w http.ResponseWriter, r *http.Request, v *visitor) error {
	id, answer := mux.Vars(r)["id"], sessions.Answer(r.PostForm.Get("answer"))
	if err := p.sealed(r, v, actNotice, id); err != nil {
		return err
	}
	switch err := p.cfg.Notices.Answer(r.Context(), v.person(), id, answer); {
	case errors.Is(err, sessions.ErrNotFound):
		return errGone
	case errors.Is(err, sessions.ErrAnswer):
		return errForm
	case err != nil:
		return err
	}
	if answer == sessions.AnswerNo {
		return p.redirect(w, r, p.done(p.path+accountPath+"/password", v, "disowned"))
	}
	return p.redirect(w, r, p.done(p.path+accountPath+"/sessions", v, "confirmed"))
}
