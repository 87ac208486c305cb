//go:build unix

package main

import (
	"context"
	"fmt"
	"html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/dom"
	"github.com/chromedp/chromedp"
)

// drawn is what the page in the browser consists of, frames of other origins
// included: values of attributes, and texts.
func (c *chromium) drawn() string {
	c.t.Helper()
	var all strings.Builder
	var walk func(nodes ...*cdp.Node)
	walk = func(nodes ...*cdp.Node) {
		for _, n := range nodes {
			if n == nil {
				continue
			}
			fmt.Fprintln(&all, n.NodeValue, strings.Join(n.Attributes, " "))
			walk(n.Children...)
			walk(n.ContentDocument)
		}
	}
	c.do(chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		result, err := cdp.Call(ctx, target, dom.GetDocument, dom.GetDocumentParams{Depth: new(int64(-1)), Pierce: new(true)})
		if err == nil {
			walk(result.Root)
		}
		return err
	}))
	return all.String()
}

// TestBrowserShowsNoPageInAFrame: a page of another origin, of the same site and
// of another one, frames pages of who is signed in, and nothing of them is shown.
func TestBrowserShowsNoPageInAFrame(t *testing.T) {
	t.Parallel()
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		if r.URL.Path == "/harmless" {
			fmt.Fprint(w, `<p>This may be framed</p>`)
			return
		}
		fmt.Fprint(w, `<h1>Win a prize</h1>`)
		for _, to := range r.URL.Query()["frame"] {
			fmt.Fprintf(w, `<iframe src="%s" width="900" height="600"></iframe>`, html.EscapeString(to))
		}
	}))
	t.Cleanup(app.Close)
	o := openOffice(t, "")
	c := openBrowser(t, browserOptions{})
	c.asAdmin(o)
	framed := []string{o.URL + "/account/sessions", o.URL + "/account/sessions/end?what=all", o.URL + "/account/password", o.URL + "/admin/sessions"}
	const person = "brand-person" // around the name of who is signed in
	for _, at := range framed {
		c.do(chromedp.Navigate(at))
		c.text("h1")
		if !strings.Contains(c.drawn(), person) {
			t.Fatalf("%s is not recognised by %q", at, person)
		}
	}
	// The server is called localhost here: other ports of it are of the same site.
	near := strings.Replace(app.URL, "127.0.0.1", "localhost", 1)
	for name, origin := range map[string]string{"of the same site": near, "of another site": app.URL} {
		stop := c.watch()
		query := url.Values{"frame": append([]string{"/harmless"}, framed...)}
		c.do(chromedp.Navigate(origin + "/?" + query.Encode()))
		c.until("document.readyState === 'complete'")
		if n := evaluate[int](c, "document.querySelectorAll('iframe').length"); n != len(framed)+1 {
			t.Fatalf("%s: the page has %d frames", name, n)
		}
		shown := c.drawn()
		if !strings.Contains(shown, "This may be framed") {
			t.Fatalf("%s: no frame is shown at all:\n%s", name, shown)
		}
		if strings.Contains(shown, person) || strings.Contains(shown, "Gatehouse") { // nor the sign-in page
			t.Errorf("%s: a page is shown in a frame:\n%s", name, shown)
		}
		_, refused := stop()
		if n := len(refused); n < len(framed) {
			t.Errorf("%s: the browser refused %q", name, refused)
		}
	}
}

// injections put scripts into a page as an attacker would who found a way to add
// HTML to it. Each that runs adds its name to window.ran.
const injections = `(() => {
	window.ran = [];
	const script = document.createElement("script");
	script.textContent = "window.ran.push('script')";
	document.body.append(script);
	const button = document.createElement("button");
	button.setAttribute("onclick", "window.ran.push('onclick')");
	document.body.append(button);
	button.click();
	const link = document.createElement("a");
	link.href = "javascript:window.ran.push('link')";
	document.body.append(link);
	link.click();
	const data = document.createElement("script");
	data.src = "data:text/javascript,window.ran.push('data')";
	document.body.append(data);
	data.onload = data.onerror = () => { window.tried = true };
	const holder = document.createElement("div");
	holder.innerHTML = "<img src='/nothing' onerror=\"window.ran.push('onerror')\">";
	holder.firstChild.addEventListener("error", () => { window.failed = true });
	document.body.append(holder);
	return true;
})()`

// TestInjectedScriptsDoNotRun: the policy of the pages is what holds when
// everything before it has failed.
func TestInjectedScriptsDoNotRun(t *testing.T) {
	t.Parallel()
	bare := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprint(w, "<h1>Without a policy</h1>")
	}))
	t.Cleanup(bare.Close)
	o := openOffice(t, "")
	c := openBrowser(t, browserOptions{})
	c.asAdmin(o)
	for _, tt := range []struct{ at, want string }{
		{bare.URL + "/", "data link onclick onerror script"}, // or the test would show nothing
		{o.URL + "/account/sessions", ""},
		{o.URL + "/account/password", ""},
		{o.URL + "/admin/sessions", ""},
		{o.URL + "/login", ""},
	} {
		c.do(chromedp.Navigate(tt.at))
		c.text("h1")
		stop := c.watch()
		evaluate[bool](c, injections)
		c.until("window.tried === true && window.failed === true")
		// A link's script comes last: after a turn of the event loop.
		if _, err := chromedp.Run(c.ctx, chromedp.Evaluate[bool]("new Promise((over) => { setTimeout(over, 0, true) })", chromedp.EvalAwaitPromise)); err != nil {
			c.fail(err)
		}
		if ran := evaluate[string](c, "window.ran.sort().join(' ')"); ran != tt.want {
			t.Errorf("%s: %q ran, want %q", tt.at, ran, tt.want)
		}
		_, refused := stop()
		if tt.want == "" && len(refused) < 5 {
			t.Errorf("%s: the browser refused only %q", tt.at, refused)
		}
	}
}
