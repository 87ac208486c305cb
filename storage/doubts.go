package storage

import (
	"maps"
	"slices"

	"gatehouse.dev/gatehouse/sessions"
)

// doubtsOf are a user's logins with the notices whose questions they share.
const doubtsOf = `SELECT id, doubt, network_doubt FROM logins WHERE realm = ? AND user_id = ?`

// isAbout tells whether a notice n is about a login among doubtsOf of that name:
// the one that left it, or one that shares its question.
func isAbout(logins string) string {
	return `(n.login_id IN (SELECT id FROM ` + logins + `) OR n.id IN (SELECT doubt FROM ` + logins + `) OR n.id IN (SELECT network_doubt FROM ` + logins + `))`
}

// inQuestion tells whether a login of a user is itself asked about. It takes the
// login, realm, user and the login.
const inQuestion = `EXISTS (SELECT 1 FROM notices o LEFT JOIN logins q ON q.realm = o.realm AND q.id = ?
	WHERE o.realm = ? AND o.user_id = ? AND o.answer = '' AND (o.login_id = ? OR o.id = q.doubt OR o.id = q.network_doubt))`

// shareDoubts notes with a login that has just begun which open questions it
// shares, given the notices that its marks became known by: that of its device;
// and that of its network if the device is new too, or is the one that the
// notice is about. Another device that has long been known is in no question
// because somebody was in its network.
func (r *Realm) shareDoubts(c conn, login *sessions.Login, device string, known map[string]string) error {
	var ids []string
	for _, kind := range []string{markDevice, markNetwork} {
		if id := known[kind]; id != "" {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	var doubt, network string
	if err := c.rows(func(scan func(...any) error) error {
		var id, of string
		err := scan(&id, &of)
		switch {
		case id == known[markDevice]:
			doubt = id
		case known[markDevice] == "" || of == device:
			network = id
		}
		return err
	}, `SELECT id, device FROM notices WHERE realm = ? AND user_id = ? AND answer = '' AND id IN ?`, r.name, login.UserID, ids); err != nil {
		return err
	}
	if doubt == "" && known[markDevice] != "" {
		doubt, network = network, "" // it is about this very browser
	}
	if doubt == "" && network == "" {
		return nil
	}
	_, err := c.exec(`UPDATE logins SET doubt = ?, network_doubt = ? WHERE realm = ? AND id = ?`, doubt, network, r.name, login.ID)
	return err
}

// markAsLogin has a browser that lost its mark in a login that goes on be known
// by the notice of that login, if there is one. Else who is asked about could
// make himself known by dropping the mark and signing in once more.
func (r *Realm) markAsLogin(c conn, login *sessions.Login, device string) error {
	var id string
	found, err := c.row([]any{&id}, `SELECT o.id FROM notices o LEFT JOIN logins q ON q.realm = o.realm AND q.id = ?
		WHERE o.realm = ? AND o.user_id = ? AND (o.login_id = ? OR o.id = q.doubt OR o.id = q.network_doubt)
		ORDER BY CASE WHEN o.answer = '' THEN 0 ELSE 1 END, CASE WHEN o.new_device THEN 0 ELSE 1 END, o.at, o.id LIMIT 1`,
		login.ID, r.name, login.UserID, login.ID)
	if err != nil || !found {
		return err
	}
	_, err = c.exec(`UPDATE known_marks SET notice_id = ? WHERE realm = ? AND user_id = ? AND kind = ? AND mark = ?`,
		id, r.name, login.UserID, markDevice, device)
	return err
}

// makeRoom removes notices of a user so that there is room for one more:
// answered ones, then those of which no login lives, the oldest first. Where
// that is not enough it gives the newest notice, to be shared.
func (r *Realm) makeRoom(c conn, userID string) (instead string, err error) {
	var n int
	if _, err := c.row([]any{&n}, `SELECT COUNT(*) FROM notices WHERE realm = ? AND user_id = ?`, r.name, userID); err != nil {
		return "", err
	}
	surplus := n + 1 - sessions.MaxNotices
	if surplus <= 0 {
		return "", nil
	}
	var gone, unanswered []string
	if err := c.rows(func(scan func(...any) error) error {
		var id, answer string
		err := scan(&id, &answer)
		gone = append(gone, id)
		if answer == "" {
			unanswered = append(unanswered, id)
		}
		return err
	}, `WITH live AS (`+doubtsOf+` AND ended_at IS NULL)
		SELECT n.id, n.answer FROM notices n WHERE n.realm = ? AND n.user_id = ? AND NOT (n.answer = '' AND `+isAbout("live")+`)
		ORDER BY CASE WHEN n.answer = '' THEN 1 ELSE 0 END, n.at, n.id LIMIT ?`, r.name, userID, r.name, userID, surplus); err != nil {
		return "", err
	}
	if len(gone) > 0 {
		if _, err := c.exec(`DELETE FROM notices WHERE realm = ? AND id IN ?`, r.name, gone); err != nil {
			return "", err
		}
	}
	if len(unanswered) > 0 {
		// Nobody said that it was the user: who comes back from there is new.
		if err := forget(c, r.name, userID, unanswered); err != nil {
			return "", err
		}
	}
	if len(gone) == surplus {
		return "", nil
	}
	_, err = c.row([]any{&instead}, `SELECT id FROM notices WHERE realm = ? AND user_id = ? AND answer = '' ORDER BY at DESC, id LIMIT 1`, r.name, userID)
	return instead, err
}

// crowd has a sign-in that finds no room for its notice n share the question of
// another one.
func (r *Realm) crowd(c conn, n sessions.Notice, instead string) error {
	if _, err := c.exec(`UPDATE notices SET crowded = ? WHERE realm = ? AND id = ?`, true, r.name, instead); err != nil {
		return err
	}
	if _, err := c.exec(`UPDATE known_marks SET notice_id = ? WHERE realm = ? AND user_id = ? AND kind <> '`+markUser+`' AND notice_id = ?`,
		instead, r.name, n.UserID, n.ID); err != nil {
		return err
	}
	column := `network_doubt`
	if n.Device {
		column = `doubt`
	}
	_, err := c.exec(`UPDATE logins SET `+column+` = ? WHERE realm = ? AND id = ?`, instead, r.name, n.LoginID)
	return err
}

// forget removes the devices and networks that became known by those notices.
func forget(c conn, realm, userID string, notices []string) error {
	_, err := c.exec(`DELETE FROM known_marks WHERE realm = ? AND user_id = ? AND kind <> '`+markUser+`' AND notice_id IN ?`,
		realm, userID, notices)
	return err
}

// vouch answers a notice of a login with yes, unless it has an answer. device:
// the user knows the device, so the login shares no doubt about its network
// any more. It tells how many notices it answered.
func (e ender) vouch(notice, login string, device bool) (int64, error) {
	if device {
		if _, err := e.c.exec(`UPDATE logins SET network_doubt = '' WHERE realm = ? AND id = ? AND network_doubt <> ''`, e.realm, login); err != nil {
			return 0, err
		}
	}
	return e.c.exec(`UPDATE notices SET answer = ?, answered_at = ? WHERE realm = ? AND id = ? AND answer = ''`,
		string(sessions.AnswerYes), e.at, e.realm, notice)
}

// disown ends the logins that a notice is about with everything that began in
// them, answers the notices of them with no, and forgets what became known by
// those. It tells how many notices had another answer, or none. The caller has
// locked the user, so no login is added.
func (e ender) disown(userID, notice string) (int64, error) {
	logins, notices, err := e.disowned(userID, notice)
	if err != nil {
		return 0, err
	}
	if err := e.lockLogins(logins); err != nil {
		return 0, err
	}
	for ids := range slices.Chunk(logins, endBatch) {
		// All sessions before the logins, which would detach some of them.
		rows, err := e.lockSessions(`s.realm = ? AND s.login_id IN ?`, e.realm, ids)
		if err != nil {
			return 0, err
		}
		if _, err := e.endSessions(rows); err != nil {
			return 0, err
		}
		var live []string
		if err := e.c.rows(func(scan func(...any) error) error {
			var id string
			err := scan(&id)
			live = append(live, id)
			return err
		}, `SELECT id FROM logins WHERE realm = ? AND id IN ? AND ended_at IS NULL ORDER BY id`, e.realm, ids); err != nil {
			return 0, err
		}
		for _, id := range live {
			if _, err := e.endLogin(id); err != nil {
				return 0, err
			}
		}
	}
	noted, err := e.c.exec(`UPDATE notices SET answer = ?, answered_at = ? WHERE realm = ? AND id IN ? AND answer <> ?`,
		string(sessions.AnswerNo), e.at, e.realm, notices, string(sessions.AnswerNo))
	if err != nil || noted == 0 {
		return 0, err
	}
	// Who comes back from there is new once more.
	return noted, forget(e.c, e.realm, userID, notices)
}

// disowned are the logins that a notice is about, and all notices of them: with
// a login goes what is asked of it, and who shares that question.
func (e ender) disowned(userID, notice string) (logins, notices []string, err error) {
	type pair struct{ login, notice string }
	var left, shared []pair
	read := func(into *[]pair) func(func(...any) error) error {
		return func(scan func(...any) error) error {
			var p pair
			err := scan(&p.login, &p.notice)
			*into = append(*into, p)
			return err
		}
	}
	if err := e.c.rows(read(&left), `SELECT login_id, id FROM notices WHERE realm = ? AND user_id = ?`, e.realm, userID); err != nil {
		return nil, nil, err
	}
	for _, column := range []string{"doubt", "network_doubt"} {
		// Each half walks an index.
		const of = ` FROM logins WHERE realm = ? AND user_id = ? AND ended_at IS `
		if err := e.c.rows(read(&shared), `SELECT id, `+column+of+`NULL AND `+column+` <> '' UNION ALL SELECT id, `+column+of+`NOT NULL AND `+column+` <> ''`,
			e.realm, userID, e.realm, userID); err != nil {
			return nil, nil, err
		}
	}
	asked, ends := map[string]bool{notice: true}, map[string]bool{}
	for grew := true; grew; {
		before := len(asked) + len(ends)
		for _, p := range slices.Concat(left, shared) {
			if asked[p.notice] {
				ends[p.login] = true
			}
		}
		for _, p := range left {
			if ends[p.login] {
				asked[p.notice] = true
			}
		}
		grew = len(asked)+len(ends) > before
	}
	return slices.Sorted(maps.Keys(ends)), slices.Sorted(maps.Keys(asked)), nil
}
