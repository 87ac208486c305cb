package storage

import (
	"context"
	"fmt"
	"maps"

	"gatehouse.dev/gatehouse/sessions"
)

// ChangeAttributes merges change into the custom attributes of a live,
// activated session of the user, and returns the session with them: a value is
// set, nil removes. sessions.ErrNotFound where there is none.
func (s *Server) ChangeAttributes(ctx context.Context, id, userID string, change map[string]*string) (*sessions.Session, error) {
	if !storable(id, userID) {
		return nil, fmt.Errorf("changing attributes: %w", sessions.ErrNotFound)
	}
	var session *sessions.Session
	err := s.db.transact(ctx, func(c conn) error {
		// Locked before it is read: two changes come one after the other, and
		// one that waited for an ending finds it.
		var one int
		found, err := c.row([]any{&one}, `SELECT 1 FROM oauth2_sessions
			WHERE authorization_server = ? AND id = ? AND user_id = ? AND ended_at IS NULL`+c.locking("FOR UPDATE"), s.name, id, userID)
		if err != nil {
			return err
		}
		if !found {
			return sessions.ErrNotFound
		}
		list, err := s.sessionsOn(c, `s.id = ? AND s.user_id = ?`, []any{id, userID}, newestFirst, 1)
		if err != nil {
			return err
		}
		if len(list) == 0 {
			return sessions.ErrNotFound
		}
		session = &list[0]
		merged := merge(session.CustomAttributes, change)
		if maps.Equal(merged, session.CustomAttributes) {
			return nil
		}
		session.CustomAttributes = merged
		_, err = c.exec(`UPDATE oauth2_sessions SET custom_attributes = ? WHERE authorization_server = ? AND id = ?`,
			document(merged), s.name, id)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("changing attributes: %w", err)
	}
	return session, nil
}

// merge returns what attributes are after the change.
func merge(attributes map[string]string, change map[string]*string) map[string]string {
	merged := make(map[string]string, len(attributes)+len(change))
	maps.Copy(merged, attributes)
	for name, value := range change {
		if value == nil {
			delete(merged, name)
		} else {
			merged[name] = *value
		}
	}
	return merged
}

// withSourced is a document of custom attributes after what their sources change.
func withSourced(attrs string, change map[string]*string) (string, error) {
	if attrs == "" || len(change) == 0 {
		return attrs, nil
	}
	var has map[string]string
	if err := parse(attrs, &has); err != nil {
		return "", err
	}
	return document(merge(has, change)), nil
}

// settleAttributes makes up for a client that changed attributes after they were
// read, or another grant that began the session meanwhile: by now the row is
// locked. It costs a statement only then.
func (i *insertion) settleAttributes() error {
	settled, err := withSourced(i.session.attrs, i.sourced)
	if err != nil || settled == i.session.attrs {
		return err
	}
	i.session.attrs = settled
	_, err = i.c.exec(`UPDATE oauth2_sessions SET custom_attributes = ? WHERE authorization_server = ? AND id = ?`,
		settled, i.name, i.session.ID)
	return err
}
