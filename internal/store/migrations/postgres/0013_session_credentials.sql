-- +goose Up
-- What a session began with: it ends when the charter no longer has that. Of those that
-- are open nobody knows it: they end.
ALTER TABLE sessions ADD COLUMN credential TEXT NOT NULL DEFAULT '';
ALTER TABLE session_links ADD COLUMN credential TEXT NOT NULL DEFAULT '';
ALTER TABLE tokens ADD COLUMN credential TEXT NOT NULL DEFAULT '';
DELETE FROM sessions WHERE via <> 'oidc';
DELETE FROM session_links;
DELETE FROM tokens WHERE scopes = 'session';

-- +goose Down
ALTER TABLE tokens DROP COLUMN credential;
ALTER TABLE session_links DROP COLUMN credential;
ALTER TABLE sessions DROP COLUMN credential;
