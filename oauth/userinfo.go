package oauth

import (
	"errors"
	"net/http"
	"slices"

	"gatehouse.dev/gatehouse/sessions"
	"gatehouse.dev/gatehouse/users"
)

// userinfo is the UserInfo endpoint (OpenID Connect Core §5.3), GET and POST.
func (s *Server) userinfo(w http.ResponseWriter, r *http.Request) {
	claims, err := s.answerUserinfo(w, r)
	if err != nil {
		s.writeBearerError(w, r, err, "openid")
		return
	}
	writeJSON(w, http.StatusOK, claims)
}

func (s *Server) answerUserinfo(w http.ResponseWriter, r *http.Request) (map[string]any, error) {
	form := false
	if r.Method == http.MethodPost {
		if isForm(r) {
			r.Body = http.MaxBytesReader(w, r.Body, maxForm)
			if err := r.ParseForm(); err != nil {
				return nil, unreadable(err)
			}
			form = true
		}
	}
	token, err := bearer(r, form)
	if err != nil {
		return nil, err
	}
	claims, ok, err := s.read(r.Context(), token)
	if err != nil {
		return nil, err
	}
	if !ok || !slices.Contains(claims.Audience, s.cfg.Issuer) {
		return nil, errToken()
	}
	state, ok, err := s.living(r.Context(), claims)
	if err != nil {
		return nil, err
	}
	if !ok || state == nil {
		return nil, errToken()
	}
	if !slices.Contains(claims.scopes(), "openid") {
		return nil, refuse("insufficient_scope", "The access token was not granted the scope openid.")
	}
	return userClaims(&state.Session, &state.User, claims.scopes()), nil
}

// unreadable is a body that is too long or broken.
func unreadable(err error) *Error {
	var tooLong *http.MaxBytesError
	if errors.As(err, &tooLong) {
		e := invalidRequest("The body is longer than %d bytes.", tooLong.Limit)
		e.Status = http.StatusRequestEntityTooLarge
		return e
	}
	return invalidRequest("The body can't be read as a form.")
}

// userClaims are the claims that the scopes ask for (OpenID Connect Core §5.4);
// what the account doesn't know is left out (§5.3.2).
func userClaims(session *sessions.Session, user *users.User, scopes []string) map[string]any {
	out := map[string]any{"sub": session.Subject}
	put := func(name, value string) {
		if value != "" {
			out[name] = value
		}
	}
	c := &user.Claims
	if slices.Contains(scopes, "profile") {
		preferred := c.PreferredUsername
		if preferred == "" {
			preferred = user.Username
		}
		for name, value := range map[string]string{"name": c.Name, "given_name": c.GivenName, "family_name": c.FamilyName,
			"middle_name": c.MiddleName, "nickname": c.Nickname, "preferred_username": preferred, "profile": c.Profile,
			"picture": c.Picture, "website": c.Website, "gender": c.Gender, "birthdate": c.Birthdate,
			"zoneinfo": c.Zoneinfo, "locale": c.Locale} {
			put(name, value)
		}
		if c.UpdatedAt != 0 {
			out["updated_at"] = c.UpdatedAt
		}
	}
	if slices.Contains(scopes, "email") && c.Email != "" {
		out["email"], out["email_verified"] = c.Email, c.EmailVerified
	}
	if slices.Contains(scopes, "phone") && c.PhoneNumber != "" {
		out["phone_number"], out["phone_number_verified"] = c.PhoneNumber, c.PhoneNumberVerified
	}
	if slices.Contains(scopes, "address") && c.Address != nil {
		out["address"] = c.Address
	}
	return out
}
