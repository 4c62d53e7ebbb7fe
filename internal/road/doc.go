// Package road holds tests only: the whole road of a signed record, from the quorum
// that endorses it to the rows that an agent brings back, with what really stands on
// that road: a keeper, PostgreSQL, MariaDB, HTTPS, agents with certificates of their
// own. What a single package can be asked is tested in that package.
//
//	sign, move, import, run, return; then tamper      TestRoad
//	many agents, a replica and agents killed          TestThousandAgents
//	a certificate is revoked while agents work        TestRevocationReachesEveryAgent
package road
